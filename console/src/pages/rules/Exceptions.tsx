// Exceptions in force, with how often each held an alert back. Those that end soon come to mind before they end.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { BellOff, Trash2 } from "lucide-react";
import { useState } from "react";
import { Link } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { useRuleTitle } from "../../app/installation";
import { toRule } from "../../app/links";
import { useSession } from "../../app/session";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm } from "../../parts/Dialog";
import { Tick } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Panel } from "../../parts/Page";
import { Asked, Badge, Empty } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago } from "../../parts/Time";

type Exception = Schemas["Exception"];
const SOON = 7 * 86_400_000;

export function Exceptions() {
  const text = useText();
  const format = useFormat();
  const say = useNotice();
  const queries = useQueryClient();
  const { can } = useSession();
  const title = useRuleTitle();
  const [ended, setEnded] = useState(false);
  const [going, setGoing] = useState<Exception>();
  const [longer, setLonger] = useState<Exception>();
  const list = useQuery({ queryKey: ["exceptions", ended], queryFn: () => ask(api.GET("/api/v1/exceptions", { params: { query: { limit: 500, ended } } })) });
  const again = () => queries.invalidateQueries({ queryKey: ["exceptions"] });
  return (
    <Panel flush title={text("rules-exceptions")} about={text("rules-exceptions-about")} actions={<Tick value={ended} onChange={setEnded}>{text("rules-ended-too")}</Tick>}>
      <Asked query={list}>
        {({ items }) => (
          <Table
            label={text("rules-exceptions")} rows={items} keyOf={(one) => one.id} height="70vh"
            empty={<Empty icon={<BellOff />} title={text("rules-no-exception")}>{text("rules-no-exception-about")}</Empty>}
            columns={[
              { id: "rule", title: text("rules-rule"), width: "minmax(9rem, 1.2fr)", cell: (one: Exception) => <Link to={toRule(one.rule)}>{title(one.rule, one.rule)}</Link> },
              { id: "condition", title: text("rules-condition"), width: "minmax(10rem, 2fr)", cell: (one: Exception) => <span className="mono">{[one.group && `group:${one.group}`, one.agent && `host:${one.agent}`, one.condition].filter(Boolean).join(" · ") || "—"}</span> },
              { id: "reason", title: text("rules-reason"), width: "minmax(9rem, 1.6fr)", cell: (one: Exception) => one.reason },
              { id: "owner", title: text("rules-owner"), width: "minmax(6rem, .8fr)", cell: (one: Exception) => one.owner },
              { id: "used", title: text("rules-used"), width: "6rem", end: true, cell: (one: Exception) => <span title={one.last_used ?? ""}>{format.number(one.used)}</span> },
              { id: "ends", title: text("rules-ends"), width: "8rem", cell: (one: Exception) => (one.ended ? <Badge>{text("rules-has-ended")}</Badge> : <span className="row"><Ago time={one.expires} />{new Date(one.expires).getTime() - Date.now() < SOON && <Badge tone="care">{text("rules-soon")}</Badge>}</span>) },
              { id: "do", title: "", width: "9rem", cell: (one: Exception) => can("exceptions:write") && !one.ended && <span className="row"><Button weight="quiet" onPress={() => setLonger(one)}>{text("rules-longer")}</Button><Button weight="quiet" icon={<Trash2 />} label={text("rules-except-remove")} onPress={() => setGoing(one)} /></span> },
            ]}
          />
        )}
      </Asked>
      <Confirm
        title={text("rules-longer-title")} action={text("rules-longer")} open={Boolean(longer)} onClose={() => setLonger(undefined)}
        onConfirm={async () => {
          await ask(api.PATCH("/api/v1/exceptions/{id}", { params: { path: { id: longer!.id } }, body: { days: 90 } }));
          await again();
        }}
      >
        <p>{text("rules-longer-about")}</p>
      </Confirm>
      <Confirm
        title={text("rules-except-remove")} action={text("rules-except-remove")} open={Boolean(going)} onClose={() => setGoing(undefined)}
        onConfirm={async () => {
          await ask(api.DELETE("/api/v1/exceptions/{id}", { params: { path: { id: going!.id } } }));
          say(text("rules-except-removed"));
          await again();
        }}
      >
        <p>{text("rules-except-remove-about")}</p>
      </Confirm>
    </Panel>
  );
}
