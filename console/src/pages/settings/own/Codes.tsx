// Codes of a device: a secret that is shown once, as a picture and as text; the first code; recovery codes that are shown once.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Smartphone } from "lucide-react";
import { useEffect, useState } from "react";
import { api, ask } from "../../../api/client";
import { useSession } from "../../../app/session";
import { useText } from "../../../i18n/words";
import { Button } from "../../../parts/Button";
import { Copy } from "../../../parts/Copy";
import { Field } from "../../../parts/Field";
import { useNotice } from "../../../parts/Notice";
import { Panel } from "../../../parts/Page";
import { Dot, Fault } from "../../../parts/State";
import { Again } from "./Again";
import { useFactorsChanged, type Factors } from "./factors";
import { Picture } from "./Picture";
import css from "./own.module.css";

interface Begun {
  secret: string;
  uri: string;
}

export function Codes({ factors }: { factors: Factors }) {
  const text = useText();
  const say = useNotice();
  const queries = useQueryClient();
  const changed = useFactorsChanged();
  const [asking, setAsking] = useState<"begin" | "remove" | "renew">();
  // What is shown once lives here and nowhere else; it goes with the page.
  const [begun, setBegun] = useState<Begun>();
  const [codes, setCodes] = useState<string[]>();
  const { hold } = useSession();
  const showing = codes !== undefined;
  useEffect(() => {
    hold(showing);
    return () => hold(false);
  }, [showing, hold]);
  const close = () => setAsking(undefined);
  const left = factors.recovery_codes;
  const kept = async () => {
    setCodes(undefined);
    await changed();
    await queries.invalidateQueries({ queryKey: ["session"] });
  };
  const buttons = factors.totp ? (
    <>
      <Button onPress={() => setAsking("renew")}>{text("settings-recovery-renew")}</Button>
      <Button weight="danger" onPress={() => setAsking("remove")}>{text("settings-codes-remove")}</Button>
    </>
  ) : (
    <Button icon={<Smartphone />} onPress={() => setAsking("begin")}>{text("settings-codes-begin")}</Button>
  );
  return (
    <Panel title={text("settings-codes")} about={text("settings-codes-about")} actions={!begun && !codes && buttons}>
      {codes ? (
        <Recovery codes={codes} onKept={() => void kept()} />
      ) : begun ? (
        <Confirming begun={begun} onStop={() => setBegun(undefined)} onCodes={(codes) => { setBegun(undefined); setCodes(codes); void changed(); }} />
      ) : factors.totp ? (
        <div className="stack tight">
          <Dot tone="good">{text("settings-codes-on")}</Dot>
          <Dot tone={left < 3 ? "care" : "calm"}>{text("settings-recovery-left", { count: left })}</Dot>
        </div>
      ) : (
        <Dot>{text("settings-codes-off")}</Dot>
      )}
      {asking === "begin" && (
        <Again
          title={text("settings-codes-begin")} action={text("settings-codes-begin")} code={false} onClose={close}
          onConfirm={async (body) => {
            setBegun(await ask(api.POST("/api/v1/session/totp", { body })));
            close();
          }}
        />
      )}
      {asking === "renew" && (
        <Again
          title={text("settings-recovery-renew")} action={text("settings-recovery-renew")} code={factors.totp} onClose={close}
          onConfirm={async (body) => {
            setCodes((await ask(api.POST("/api/v1/session/recovery-codes", { body }))).codes);
            close();
          }}
        >
          <p>{text("settings-recovery-renew-about")}</p>
        </Again>
      )}
      {asking === "remove" && (
        <Again
          title={text("settings-codes-remove")} action={text("settings-codes-remove")} danger code={factors.totp} onClose={close}
          onConfirm={async (body) => {
            await ask(api.POST("/api/v1/session/totp/remove", { body }));
            close();
            say(text("settings-codes-removed"));
            await changed();
          }}
        >
          <p>{text("settings-codes-remove-about")}</p>
        </Again>
      )}
    </Panel>
  );
}

function Confirming({ begun, onCodes, onStop }: { begun: Begun; onCodes: (codes: string[]) => void; onStop: () => void }) {
  const text = useText();
  const [code, setCode] = useState("");
  const confirm = useMutation({
    mutationFn: () => ask(api.POST("/api/v1/session/totp/confirm", { body: { code: code.trim() } })),
    onSuccess: ({ codes }) => onCodes(codes),
    onError: () => setCode(""),
  });
  return (
    <div className={css.setup}>
      <Picture value={begun.uri} label={text("settings-codes-picture")} />
      <form
        className={css.form}
        onSubmit={(event) => {
          event.preventDefault();
          confirm.mutate();
        }}
      >
        <p>{text("settings-codes-scan")}</p>
        <Copy label={text("settings-codes-secret")}>{begun.secret}</Copy>
        <Field label={text("settings-codes-first")} help={text("settings-codes-first-about")} value={code} onChange={setCode} autoComplete="one-time-code" inputMode="numeric" code autoFocus maxLength={16} />
        {confirm.error ? <Fault error={confirm.error} /> : null}
        <span className="row">
          <Button type="submit" weight="primary" isPending={confirm.isPending} isDisabled={!code.trim()}>{text("settings-codes-confirm")}</Button>
          <Button onPress={onStop}>{text("cancel")}</Button>
        </span>
      </form>
    </div>
  );
}

function Recovery({ codes, onKept }: { codes: string[]; onKept: () => void }) {
  const text = useText();
  return (
    <div className="stack" role="group" aria-label={text("settings-recovery")}>
      <h3>{text("settings-recovery")}</h3>
      <p>{text("settings-recovery-about")} <strong>{text("settings-shown-once")}</strong></p>
      <div className={css.codes}><Copy label={text("settings-recovery")}>{codes.join("\n")}</Copy></div>
      <span><Button weight="primary" onPress={onKept}>{text("settings-recovery-kept")}</Button></span>
    </div>
  );
}
