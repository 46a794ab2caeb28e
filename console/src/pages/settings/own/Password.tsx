// One's own password.
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../../../api/client";
import { useText } from "../../../i18n/words";
import { Button } from "../../../parts/Button";
import { Field } from "../../../parts/Field";
import { Panel } from "../../../parts/Page";
import { Fault } from "../../../parts/State";
import type { Factors } from "./factors";
import css from "./own.module.css";

const SHORTEST = 12;

export function Password({ factors }: { factors: Factors }) {
  const text = useText();
  const [old, setOld] = useState("");
  const [next, setNext] = useState("");
  const [code, setCode] = useState("");
  const change = useMutation({
    mutationFn: () => ask(api.PUT("/api/v1/session/password", { body: { old, new: next, code: code.trim() || undefined } })),
    onError: () => setCode(""),
  });
  return (
    <Panel title={text("settings-password")} about={text("settings-password-about")}>
      <form
        className={css.form}
        onSubmit={(event) => {
          event.preventDefault();
          change.mutate();
        }}
      >
        <Field label={text("settings-password-old")} type="password" autoComplete="current-password" value={old} onChange={setOld} />
        <Field label={text("settings-password-new")} type="password" autoComplete="new-password" value={next} onChange={setNext} help={text("settings-password-length", { least: SHORTEST })} />
        {factors.totp && <Field label={text("sign-in-code")} help={text("sign-in-code-about")} autoComplete="one-time-code" value={code} onChange={setCode} code maxLength={64} />}
        {change.error ? <Fault error={change.error} /> : null}
        <span><Button type="submit" isPending={change.isPending} isDisabled={!old || next.length < SHORTEST || (factors.totp && !code)}>{text("settings-password-set")}</Button></span>
      </form>
    </Panel>
  );
}
