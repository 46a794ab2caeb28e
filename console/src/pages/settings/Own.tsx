// One's own password.
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../../api/client";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Field } from "../../parts/Field";
import { Facts, Panel } from "../../parts/Page";
import { Fault } from "../../parts/State";

const SHORTEST = 12;

export function Own() {
  const text = useText();
  const { who } = useSession();
  const [old, setOld] = useState("");
  const [next, setNext] = useState("");
  const change = useMutation({ mutationFn: () => ask(api.PUT("/api/v1/session/password", { body: { old, new: next } })) });
  return (
    <div className="stack wide">
      <Panel title={text("settings-me")}>
        <Facts items={[[text("name"), who.name], [text("settings-role"), text(`role-${who.role}`)], [text("settings-tenant"), who.tenant === "*" ? text("settings-all-tenants") : who.tenant]]} />
      </Panel>
      <Panel title={text("settings-password")} about={text("settings-password-about")}>
        <form
          className="stack" style={{ maxWidth: "26rem" }}
          onSubmit={(event) => {
            event.preventDefault();
            change.mutate();
          }}
        >
          <Field label={text("settings-password-old")} type="password" autoComplete="current-password" value={old} onChange={setOld} />
          <Field label={text("settings-password-new")} type="password" autoComplete="new-password" value={next} onChange={setNext} help={text("settings-password-length", { least: SHORTEST })} />
          {change.error ? <Fault error={change.error} /> : null}
          <span><Button type="submit" isPending={change.isPending} isDisabled={!old || next.length < SHORTEST}>{text("settings-password-set")}</Button></span>
        </form>
      </Panel>
    </div>
  );
}
