// Off, detect or prevent, for all servers or a group. What could stop good traffic says so first.
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useLayers } from "../../app/installation";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm } from "../../parts/Dialog";
import { Choose, Field } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";

const STATES = ["off", "detect", "prevent", "inherit"] as const;

export function Switcher({ rule }: { rule: Schemas["Rule"] }) {
  const text = useText();
  const say = useNotice();
  const queries = useQueryClient();
  const [open, setOpen] = useState(false);
  const [state, setState] = useState<(typeof STATES)[number]>("detect");
  const [layer, setLayer] = useState("tenant");
  const [reason, setReason] = useState("");
  const layers = useLayers(open);
  const names = [...new Set(["tenant", ...(layers.data?.layers.map((layer) => layer.layer).filter((layer) => layer.startsWith("group:")) ?? [])])];
  return (
    <>
      <Button onPress={() => setOpen(true)}>{text("rules-switch")}</Button>
      <Confirm
        title={text("rules-switch")} action={text("save")} open={open} onClose={() => setOpen(false)}
        onConfirm={async () => {
          const over = layers.data?.layers.find((one) => one.layer === layer)?.number;
          await ask(api.PUT("/api/v1/rules/{id}/state", { params: { path: { id: rule.id } }, body: { layer, state, over, reason } }));
          say(text("rules-switched"));
          await queries.invalidateQueries({ queryKey: ["rules"] });
          await queries.invalidateQueries({ queryKey: ["policies"] });
        }}
      >
        <Choose label={text("rules-state")} value={state} onChange={setState} choices={STATES.map((id) => ({ id, name: text(`rule-state-${id}`), about: text(`rule-state-${id}-about`) }))} />
        <Choose label={text("rules-for")} value={layer} onChange={setLayer} choices={names.map((id) => ({ id, name: id === "tenant" ? text("layer-tenant") : id }))} />
        <Field label={text("rules-reason")} value={reason} onChange={setReason} maxLength={1000} />
        {state === "prevent" && <p>{text("rules-prevent-about")}</p>}
      </Confirm>
    </>
  );
}
