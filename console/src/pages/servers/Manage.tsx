// What can be done to a server as a whole: a scan, and the end of its enrolment.
import { useQueryClient } from "@tanstack/react-query";
import { Ellipsis } from "lucide-react";
import { useState } from "react";
import { useNavigate } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { SERVERS } from "../../app/links";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Confirm } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { Menu } from "../../parts/Menu";
import { useNotice } from "../../parts/Notice";
import { ReasonField } from "../../parts/ReasonField";

export function Manage({ agent }: { agent: Schemas["Agent"] }) {
  const text = useText();
  const say = useNotice();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const { can } = useSession();
  const [open, setOpen] = useState<"scan" | "revoke" | "forget">();
  const [paths, setPaths] = useState("/var/www\n/tmp");
  const [reason, setReason] = useState("");
  const path = { id: agent.id };
  const close = () => setOpen(undefined);
  const revoked = agent.state === "revoked";
  return (
    <>
      <Menu
        label={text("servers-manage")} icon={<Ellipsis />}
        items={[
          can("actions:order") && { id: "scan", name: text("servers-scan"), do: () => setOpen("scan"), isDisabled: revoked },
          can("agents:revoke") && !revoked && { id: "revoke", name: text("servers-revoke"), do: () => setOpen("revoke") },
          can("agents:delete") && revoked && { id: "forget", name: text("servers-forget"), do: () => setOpen("forget") },
        ]}
      />
      <Confirm
        title={text("servers-scan")} action={text("servers-scan-begin")} open={open === "scan"} onClose={close}
        onConfirm={async () => {
          await ask(api.POST("/api/v1/agents/{id}/scans", { params: { path }, body: { paths: paths.split("\n").map((path) => path.trim()).filter(Boolean), reason: reason.trim() } }));
          say(text("servers-scan-ordered", { host: agent.name }));
          await queries.invalidateQueries({ queryKey: ["agents"] });
        }}
      >
        <ReasonField value={reason} onChange={setReason} />
        <Field label={text("servers-scan-paths")} help={text("servers-scan-about")} lines={4} code value={paths} onChange={setPaths} />
      </Confirm>
      <Confirm
        title={text("servers-revoke")} action={text("servers-revoke")} danger open={open === "revoke"} onClose={close}
        onConfirm={async () => {
          await ask(api.POST("/api/v1/agents/{id}/revoke", { params: { path } }));
          say(text("servers-revoked", { host: agent.name }));
          await queries.invalidateQueries({ queryKey: ["agents"] });
        }}
      >
        <p>{text("servers-revoke-about", { host: agent.name })}</p>
      </Confirm>
      <Confirm
        title={text("servers-forget")} action={text("servers-forget")} danger open={open === "forget"} onClose={close}
        onConfirm={async () => {
          await ask(api.DELETE("/api/v1/agents/{id}", { params: { path } }));
          await navigate(SERVERS);
          await queries.invalidateQueries({ queryKey: ["agents"] });
        }}
      >
        <p>{text("servers-forget-about", { host: agent.name })}</p>
      </Confirm>
    </>
  );
}
