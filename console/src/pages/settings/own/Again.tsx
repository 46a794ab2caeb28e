// Asks for the password again, and for a code where one is needed, before a way to sign in is set up or taken away: an open
// session alone is not enough for that.
import { useState, type FormEvent, type ReactNode } from "react";
import type { Schemas } from "../../../api/client";
import { told } from "../../../app/webauthn";
import { useText } from "../../../i18n/words";
import { Button } from "../../../parts/Button";
import { Dialog } from "../../../parts/Dialog";
import { Field } from "../../../parts/Field";
import { Fault } from "../../../parts/State";

interface Props {
  title: string;
  action: string;
  danger?: boolean;
  /** Is a code of a device asked for as well? */
  code: boolean;
  onClose: () => void;
  /** Does it; what it throws is shown and the dialog stays. */
  onConfirm: (shown: Schemas["Again"]) => Promise<unknown>;
  /** What else is asked. */
  children?: ReactNode;
  isDisabled?: boolean;
}

export function Again({ title, action, danger, code: needed, onClose, onConfirm, children, isDisabled }: Props) {
  const text = useText();
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [state, setState] = useState<{ busy: boolean; fault?: unknown }>({ busy: false });
  const confirm = async (event: FormEvent) => {
    event.preventDefault();
    if (state.busy) return;
    setState({ busy: true });
    try {
      await onConfirm({ password, code: code.trim() || undefined });
    } catch (fault) {
      setState({ busy: false, fault: told(fault, text) });
      setCode("");
    }
  };
  return (
    <Dialog title={title} open onClose={onClose}>
      <form className="stack" onSubmit={(event) => void confirm(event)}>
        {children}
        <Field label={text("settings-password-old")} type="password" value={password} onChange={setPassword} autoComplete="current-password" autoFocus={!children} />
        {needed && <Field label={text("sign-in-code")} help={text("sign-in-code-about")} value={code} onChange={setCode} autoComplete="one-time-code" code maxLength={64} />}
        {state.fault !== undefined && <Fault error={state.fault} />}
        <span className="row">
          <Button type="submit" weight={danger ? "danger" : "primary"} isPending={state.busy} isDisabled={isDisabled || !password || (needed && !code)}>{action}</Button>
          <Button onPress={onClose}>{text("cancel")}</Button>
        </span>
      </form>
    </Dialog>
  );
}
