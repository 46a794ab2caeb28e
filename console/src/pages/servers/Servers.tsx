// All protected servers: whether each is connected, whether its modules are proven to work, and what it lacks.
import { useQuery } from "@tanstack/react-query";
import { Server, Plus } from "lucide-react";
import { useMemo, useState } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { toServer } from "../../app/links";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Field } from "../../parts/Field";
import { Page, Panel } from "../../parts/Page";
import { Asked, Badge, Dot, Empty } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago } from "../../parts/Time";
import { Enrol } from "./Enrol";
import { AGENT_TONES, MODULES, PROOF_TONES, worst } from "./model";

type Agent = Schemas["Agent"];
type Proof = Schemas["HostProof"];

export default function Servers() {
  const text = useText();
  const navigate = useNavigate();
  const { can } = useSession();
  const [search, setSearch] = useSearchParams();
  const [part, setPart] = useState("");
  const agents = useQuery({ queryKey: ["agents", "all"], queryFn: () => everyAgent(), refetchInterval: 15_000 });
  const proofs = useQuery({ queryKey: ["agents", "proof"], queryFn: () => ask(api.GET("/api/v1/proof", { params: { query: { limit: 1_000 } } })), refetchInterval: 30_000 });
  const proofOf = useMemo(() => new Map(proofs.data?.items.map((proof) => [proof.agent, proof])), [proofs.data]);
  const enrolling = search.get("enrol") !== null;
  const enrol = (open: boolean) =>
    setSearch((search) => {
      if (open) search.set("enrol", "1");
      else search.delete("enrol");
      return search;
    });
  const add = can("enrolment-tokens:write") && <Button weight="primary" icon={<Plus />} onPress={() => enrol(true)}>{text("servers-enrol")}</Button>;
  return (
    <Page title={text("page-servers")} about={text("servers-about")} actions={add}>
      <Asked query={agents} lines={6}>
        {(items) => {
          const shown = items.filter((agent) => `${agent.name} ${agent.tags.join(" ")} ${agent.id}`.toLowerCase().includes(part.toLowerCase().trim()));
          if (items.length === 0) {
            return <Panel><Empty icon={<Server />} title={text("servers-none")} action={add}>{text("servers-none-about")}</Empty></Panel>;
          }
          return (
            <Panel flush title={text("servers-count", { count: items.length })} actions={<div data-search><Field label={text("servers-find")} value={part} onChange={setPart} type="search" /></div>}>
              <Table
                label={text("page-servers")} rows={shown} keyOf={(agent) => agent.id} onOpen={(agent) => void navigate(toServer(agent.id))} height="75vh"
                empty={<Empty title={text("servers-no-match")} />}
                columns={[
                  { id: "name", title: text("servers-host"), width: "minmax(9rem, 1.2fr)", cell: (agent: Agent) => <span>{agent.name} {agent.tags.map((tag) => <Badge key={tag}>{tag}</Badge>)}</span> },
                  { id: "state", title: text("servers-state"), width: "9rem", cell: (agent: Agent) => <Dot tone={AGENT_TONES[agent.state]}>{text(`agent-${agent.state}`)}</Dot> },
                  { id: "proof", title: text("servers-proven"), width: "minmax(10rem, 1fr)", cell: (agent: Agent) => <Proven proof={proofOf.get(agent.id)} /> },
                  { id: "modules", title: text("servers-modules"), width: "minmax(12rem, 1.6fr)", cell: (agent: Agent) => <Modules agent={agent} /> },
                  { id: "system", title: text("servers-system"), width: "minmax(8rem, 1fr)", cell: (agent: Agent) => <span className="soft">{[agent.host.os_name, agent.host.os_version].filter(Boolean).join(" ")}</span> },
                  { id: "seen", title: text("servers-seen"), width: "7rem", cell: (agent: Agent) => <Ago time={agent.last_seen} /> },
                ]}
              />
            </Panel>
          );
        }}
      </Asked>
      {enrolling && <Enrol onClose={() => enrol(false)} />}
    </Page>
  );
}

/** Page after page; an installation has thousands of hosts at the most. */
async function everyAgent(): Promise<(Agent & { host: Record<string, string> })[]> {
  const all: Agent[] = [];
  let cursor: string | undefined;
  do {
    const page = await ask(api.GET("/api/v1/agents", { params: { query: { limit: 1_000, cursor } } }));
    all.push(...page.items);
    cursor = page.next ?? undefined;
  } while (cursor && all.length < 20_000);
  return all as (Agent & { host: Record<string, string> })[];
}

function Proven({ proof }: { proof?: Proof }) {
  const text = useText();
  if (!proof || proof.modules.length === 0) return <span className="soft">—</span>;
  const state = worst(proof.modules.map((module) => module.state));
  const lacking = proof.modules.filter((module) => module.state !== "proven");
  return (
    <span>
      <Dot tone={PROOF_TONES[state]}>{text(`proof-${state}`)}</Dot>
      {lacking.length > 0 && <span className="soft small"> {lacking.map((module) => text(`module-${module.subject}`)).join(", ")}</span>}
    </span>
  );
}

function Modules({ agent }: { agent: Agent }) {
  const text = useText();
  const modules = (agent.status as { modules?: { id: string; state: string }[] }).modules ?? [];
  return (
    <span className="row">
      {MODULES.map((id) => modules.find((module) => module.id === id)).filter((module) => module && module.state !== "off").map((module) => (
        <Badge key={module!.id} tone={module!.state === "on" ? "lead" : "person"}>{text(`module-${module!.id}`)}</Badge>
      ))}
    </span>
  );
}
