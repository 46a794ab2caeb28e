// What is blocked on a server and which files are in quarantine there, each with its undo.
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useRuleTitle } from "../../app/installation";
import { useSession } from "../../app/session";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm } from "../../parts/Dialog";
import { useNotice } from "../../parts/Notice";
import { Panel } from "../../parts/Page";
import { Badge } from "../../parts/State";
import { Ago } from "../../parts/Time";
import css from "./Servers.module.css";

export function InEffect({ server }: { server: Schemas["Server"] }) {
  const text = useText();
  const format = useFormat();
  const title = useRuleTitle();
  const say = useNotice();
  const queries = useQueryClient();
  const { can } = useSession();
  const [undo, setUndo] = useState<{ id: string; what: string; file: boolean }>();
  return (
    <div className="grid two">
      <Panel title={text("servers-blocks", { count: server.blocks_count })}>
        {server.blocks.length === 0 ? <p className="soft">{text("servers-no-blocks")}</p> : (
          <ul className={css.rows}>
            {server.blocks.map((block) => (
              <li key={block.action}>
                <span className="mono">{block.target} {block.confirm_by && <Badge tone="person">{text("servers-to-confirm")}</Badge>}</span>
                <span className="soft small">{block.seconds_left != null && text("servers-left", { span: format.span(block.seconds_left * 1_000) })}</span>
                <span className="soft small">{title(block.rule, block.why)}</span>
                {can("actions:undo") && <Button weight="quiet" onPress={() => setUndo({ id: block.action, what: block.target, file: false })}>{text("servers-undo")}</Button>}
              </li>
            ))}
          </ul>
        )}
      </Panel>
      <Panel title={text("servers-quarantine", { count: server.quarantine.length })}>
        {server.quarantine.length === 0 ? <p className="soft">{text("servers-no-quarantine")}</p> : (
          <ul className={css.rows}>
            {server.quarantine.map((file) => (
              <li key={file.action}>
                <span className="mono">{file.path}</span>
                <span className="soft small"><Ago time={file.since} /></span>
                <span className="soft small">{title(file.rule, file.why)}</span>
                {can("actions:undo") && <Button weight="quiet" onPress={() => setUndo({ id: file.action, what: file.path, file: true })}>{text("servers-restore")}</Button>}
              </li>
            ))}
          </ul>
        )}
      </Panel>
      <Confirm
        title={text(undo?.file ? "servers-restore-title" : "servers-undo-title")} action={text(undo?.file ? "servers-restore" : "servers-undo")} danger={undo?.file} open={Boolean(undo)} onClose={() => setUndo(undefined)}
        onConfirm={async () => {
          await ask(api.POST("/api/v1/actions/{id}/undo", { params: { path: { id: undo!.id } } }));
          say(text("servers-undone"));
          await queries.invalidateQueries({ queryKey: ["agents"] });
        }}
      >
        <p className="mono">{undo?.what}</p>
        <p>{text(undo?.file ? "servers-restore-about" : "servers-undo-about")}</p>
      </Confirm>
    </div>
  );
}
