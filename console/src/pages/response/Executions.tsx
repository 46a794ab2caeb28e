// Executions of playbooks, the newest first: each opens step by step.
import { ListChecks } from "lucide-react";
import { Link, useNavigate, useSearchParams } from "react-router";
import { toExecution, toPlaybook } from "../../app/links";
import { useText } from "../../i18n/words";
import { Choose } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Asked, Badge, Dot, Empty } from "../../parts/State";
import { Table, type Column } from "../../parts/Table";
import { Ago } from "../../parts/Time";
import { useExecutions, usePlaybooks } from "./asked";
import { By } from "./Cause";
import { EXECUTION_STATES, questionsOf, type Execution } from "./model";
import { toneOf, useNames } from "./names";
import { Reason } from "./sentences";
import css from "./Response.module.css";

const ALL = "all";

/** All executions, or those of one playbook. */
export function Executions({ of }: { of?: string }) {
  const text = useText();
  const names = useNames();
  const navigate = useNavigate();
  const { data: playbooks } = usePlaybooks();
  const [search, setSearch] = useSearchParams();
  const filter = { playbook: of ?? search.get("playbook") ?? "", state: search.get("ends") ?? "" };
  const query = useExecutions(filter);
  const set = (name: string, value: string) => setSearch((search) => {
    if (value === ALL) search.delete(name);
    else search.set(name, value);
    return search;
  }, { replace: true });
  const title: Column<Execution>[] = of ? [] : [{ id: "playbook", title: text("response-playbook"), width: "minmax(12rem, 2fr)", cell: (row) => <Link to={toPlaybook(row.playbook)}>{names.playbook(row.playbook)}</Link> }];
  const columns: Column<Execution>[] = [
    { id: "time", title: text("response-begun"), width: "8rem", cell: (row) => <Ago time={row.started} /> },
    ...title,
    {
      id: "state", title: text("response-state"), width: "minmax(8rem, 1fr)",
      cell: (row) => questionsOf(row).length > 0 ? <Badge tone="person">{text("response-asks")}</Badge> : <Dot tone={toneOf(row.state)}>{names.ends(row.state)}</Dot>,
    },
    { id: "by", title: text("response-by"), width: "minmax(8rem, 1fr)", cell: (row) => <By by={row.by} /> },
    { id: "reason", title: text("response-reason"), width: "minmax(10rem, 2fr)", cell: (row) => <Reason>{row.reason}</Reason> },
  ];
  const choices = [{ id: ALL, name: text("response-all") }, ...(playbooks?.items ?? []).filter((one) => one.stepwise).map((one) => ({ id: one.id, name: names.playbook(one.id) }))];
  return (
    <Panel title={text("response-executions")} about={text("response-executions-about")} flush>
      <div className={css.filters}>
        {!of && <Choose label={text("response-playbook")} value={filter.playbook || ALL} onChange={(value) => set("playbook", value)} choices={choices} />}
        <Choose label={text("response-state")} value={filter.state || ALL} onChange={(value) => set("ends", value)} choices={[{ id: ALL, name: text("response-all") }, ...EXECUTION_STATES.map((id) => ({ id: id as string, name: names.ends(id) }))]} />
      </div>
      <Asked query={query}>
        {(rows) => (
          <Table
            label={text("response-executions")} rows={rows} columns={columns} keyOf={(row) => row.id} onOpen={(row) => void navigate(toExecution(row.id))}
            height="calc(100vh - 24rem)" onEnd={query.hasNextPage && !query.isFetchingNextPage ? () => void query.fetchNextPage({ cancelRefetch: false }) : undefined}
            empty={<Empty icon={<ListChecks />} title={text("response-executions-none")}>{text("response-executions-none-about")}</Empty>}
          />
        )}
      </Asked>
    </Panel>
  );
}
