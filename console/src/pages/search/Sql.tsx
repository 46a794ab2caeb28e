// One SELECT over the tenant's events, for what the search language cannot say.
import { useMutation } from "@tanstack/react-query";
import { Play } from "lucide-react";
import { api, ask } from "../../api/client";
import { at, shown } from "../../api/document";
import { useDraft } from "../../app/drafts";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Code } from "../../parts/Code";
import { Panel } from "../../parts/Page";
import { Empty, Fault } from "../../parts/State";
import { Table } from "../../parts/Table";
import type { Asked } from "./address";

const FIRST = 'SELECT "source.ip", count(*) AS n\nFROM events\nWHERE "event.kind" = \'alert\'\nGROUP BY 1 ORDER BY n DESC LIMIT 50';

export default function Sql({ asked, onChange }: { asked: Asked; onChange: (change: Partial<Asked>) => void }) {
  const text = useText();
  const [draft, setDraft] = useDraft<{ over: string; text: string }>("sql");
  // What an address asks comes first, unless the draft began with that.
  const statement = draft && (asked.q === "" || asked.q === draft.over) ? draft.text : asked.q || FIRST;
  const setStatement = (text: string) => setDraft({ over: asked.q, text });
  const run = useMutation({
    mutationFn: (sql: string) => ask(api.POST("/api/v1/events/sql", { body: { sql } })),
  });
  const send = () => {
    onChange({ q: statement });
    setDraft({ over: statement, text: statement });
    run.mutate(statement);
  };
  const rows = run.data?.rows ?? [];
  return (
    <>
      <Panel title={text("search-sql-title")} about={text("search-sql-about")} actions={<Button weight="primary" icon={<Play />} isPending={run.isPending} onPress={send}>{text("search-run")}</Button>}>
        {/* Ctrl Enter, as in every console that takes statements. */}
        <div onKeyDown={(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && send()}>
          <Code label={text("search-sql-title")} language="sql" value={statement} onChange={setStatement} minHeight="8rem" />
        </div>
      </Panel>
      {run.error ? <Fault error={run.error} /> : null}
      {run.data && (
        <Panel flush title={text("search-rows", { count: rows.length })} about={run.data.more ? text("search-rows-more") : undefined}>
          {rows.length === 0 ? <Empty title={text("search-no-rows")} /> : (
            <Table
              label={text("search-results")} height="60vh" keyOf={(row) => String(row.index)}
              rows={rows.map((row, index) => ({ index, row }))}
              columns={run.data.columns.map((column) => ({ id: column, title: column, cell: ({ row }: { row: unknown }) => <span className="mono">{shown(at(row, column))}</span> }))}
            />
          )}
        </Panel>
      )}
    </>
  );
}
