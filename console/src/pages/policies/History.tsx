// Former versions of a layer: who, when, what, and back to it.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../../api/client";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Confirm } from "../../parts/Dialog";
import { useNotice } from "../../parts/Notice";
import { Panel } from "../../parts/Page";
import { ReasonField } from "../../parts/ReasonField";
import { Asked, Badge, Empty } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Moment } from "../../parts/Time";
import { Settings } from "./Difference";
import type { Layer } from "./Policies";

export function History({ layer, current }: { layer: string; current: number }) {
  const text = useText();
  const say = useNotice();
  const queries = useQueryClient();
  const { can } = useSession();
  const [open, setOpen] = useState<Layer>();
  const [reason, setReason] = useState("");
  const history = useQuery({ queryKey: ["policies", "history", layer], queryFn: () => ask(api.GET("/api/v1/policies/layers/{layer}/history", { params: { path: { layer }, query: { limit: 200 } } })) });
  const back = useQuery({
    queryKey: ["policies", "diff", layer, open?.number, current],
    queryFn: () => ask(api.GET("/api/v1/policies/layers/{layer}/diff", { params: { path: { layer }, query: open!.number === current ? {} : { from: current, to: open!.number } } })),
    enabled: Boolean(open),
  });
  const isCurrent = open?.number === current;
  return (
    <Panel flush title={text("policies-history")}>
      <Asked query={history}>
        {({ items }) => (
          <Table
            label={text("policies-history")} rows={items} keyOf={(version) => String(version.number)} onOpen={setOpen}
            empty={<Empty title={text("policies-no-history")} />}
            columns={[
              { id: "number", title: text("policies-number"), width: "9rem", cell: (version: Layer) => <span className="row">{version.number}{version.number === current && <Badge tone="lead">{text("policies-in-force")}</Badge>}</span> },
              { id: "created", title: text("policies-when"), width: "11rem", cell: (version: Layer) => <Moment time={version.created} /> },
              { id: "author", title: text("policies-who"), width: "minmax(8rem, 1fr)", cell: (version: Layer) => version.author },
              { id: "reason", title: text("reason"), width: "minmax(10rem, 2fr)", cell: (version: Layer) => version.reason || <span className="soft">—</span> },
            ]}
          />
        )}
      </Asked>
      <Confirm
        title={text(isCurrent ? "policies-what-changed" : "policies-back-to", { number: open?.number ?? 0 })} action={text(isCurrent ? "close" : "policies-roll-back")} open={Boolean(open)} onClose={() => { setOpen(undefined); setReason(""); }}
        isDisabled={!isCurrent && !can("policies:write")}
        onConfirm={async () => {
          if (isCurrent) return;
          await ask(api.POST("/api/v1/policies/layers/{layer}/rollback", { params: { path: { layer } }, body: { to: open!.number, over: current, reason: reason.trim() } }));
          say(text("policies-rolled-back", { number: open!.number }));
          await queries.invalidateQueries({ queryKey: ["policies"] });
        }}
      >
        <Asked query={back}>
          {(difference) => (
            <div className="stack">
              {difference.settings.length === 0 ? <p>{text("policies-no-difference")}</p> : <Settings settings={difference.settings} />}
              {!isCurrent && <p>{text("policies-affects", { affected: difference.affected, hosts: difference.hosts })}</p>}
              {!isCurrent && <ReasonField help={text("policies-reason-about")} value={reason} onChange={setReason} />}
            </div>
          )}
        </Asked>
      </Confirm>
    </Panel>
  );
}
