// The last hours in one look: what was stopped and by which layer, what waits for a person, what is blocked and for how long,
// what is unprotected, and whether events, disk and books are well. It keeps itself up to date.
import { useQuery } from "@tanstack/react-query";
import { ShieldCheck } from "lucide-react";
import { useState } from "react";
import { Link } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { ENROL, NEWS, SERVERS, SOURCES, toExecution, toLedger, toResponse, toSearch } from "../../app/links";
import { useFormat } from "../../i18n/format";
import { useText, useWords } from "../../i18n/words";
import { Chart } from "../../parts/Chart";
import { Choose } from "../../parts/Field";
import { Figure, Page, Panel } from "../../parts/Page";
import { bySeverity } from "../../parts/Severity";
import { Asked, Badge, Empty } from "../../parts/State";
import { TOOK_EFFECT } from "../response/model";
import { Blocks } from "./Blocks";
import { Health } from "./Health";
import { Newest } from "./Newest";
import { Unprotected } from "./Unprotected";
import css from "./Now.module.css";

const HOURS = ["1", "6", "24", "72", "168"] as const;

export default function Now() {
  const text = useText();
  const [hours, setHours] = useState<string>("24");
  const now = useQuery({
    queryKey: ["now", hours],
    queryFn: () => ask(api.GET("/api/v1/now", { params: { query: { hours: Number(hours) } } })),
    refetchInterval: 15_000,
    placeholderData: (before) => before,
  });
  const choices = HOURS.map((id) => ({ id, name: text("now-hours", { hours: Number(id) }) }));
  return (
    <Page title={text("page-now")} about={text("now-about")} actions={<Choose bare label={text("now-span")} choices={choices} value={hours} onChange={setHours} />}>
      <Asked query={now} lines={8}>
        {(now) => (
          <>
            <Approvals approvals={now.approvals} orders={now.orders_waiting} />
            <Stopped now={now} />
            <div className="grid two">
              <Panel title={text("now-alerts")} actions={<Link to={toSearch("alerts")}>{text("now-all")}</Link>}>
                <AlertsOverTime from={now.from} />
                <Newest />
              </Panel>
              <Panel title={text("now-blocks", { count: now.blocks.active })} actions={<Link to={toResponse("effect")}>{text("now-all")}</Link>}>
                <Blocks blocks={now.blocks} />
              </Panel>
            </div>
            <div className="grid two">
              <Panel title={text("now-hosts")} actions={<Link to={SERVERS}>{text("now-all")}</Link>}>
                <Unprotected hosts={now.hosts} />
              </Panel>
              <Panel title={text("now-health")} actions={<Link to={SOURCES}>{text("now-all")}</Link>}>
                <Health now={now} />
              </Panel>
            </div>
          </>
        )}
      </Asked>
    </Page>
  );
}

/** What needs a person comes before everything else, and is not there when nothing does. */
function Approvals({ approvals, orders }: { approvals: Schemas["Approvals"]; orders: number }) {
  const text = useText();
  const { language } = useWords();
  const format = useFormat();
  if (approvals.waiting + orders === 0) return null;
  return (
    <Panel title={<Badge tone="person">{text("now-waits", { count: approvals.waiting + orders })}</Badge>}>
      <ul className="stack tight">
        {approvals.items.map((one) => (
          <li key={one.execution + one.step} className="row apart">
            <Link to={toExecution(one.execution)}>{(language === "ja" && one.ja) || one.en || one.playbook}</Link>
            {one.until && <span className="soft">{text("now-until", { time: format.short(one.until) })}</span>}
          </li>
        ))}
        {orders > 0 && <li><Link to={toResponse("waiting")}>{text("now-orders", { count: orders })}</Link></li>}
      </ul>
    </Panel>
  );
}

const LAYERS = ["waf", "ips_prevent", "host_block", "malware_denied"] as const;

/** What exactly a number counts: the same conditions as the manager's, over the same time. */
function counted(layer: (typeof LAYERS)[number], { from, stopped }: Schemas["Now"]): string {
  const actions = (action: string) => toLedger({ action, state: TOOK_EFFECT, since: from, probe: "false" });
  const alerts = (rulesets: string) => toSearch("alerts", `${rulesets} and event.outcome:success and ${NEWS}`, from);
  if (layer === "waf") return actions("waf_block");
  if (layer === "host_block") return actions("block_address");
  if (layer === "ips_prevent") return alerts("rule.ruleset:suricata");
  // Most files are in both lists; the number is that of the longer one.
  return stopped.quarantined === stopped.malware_denied && stopped.quarantined > 0 ? actions("quarantine_file") : alerts("(rule.ruleset:yara or rule.ruleset:hash)");
}

function Stopped({ now }: { now: Schemas["Now"] }) {
  const text = useText();
  const format = useFormat();
  const all = LAYERS.reduce((sum, layer) => sum + now.stopped[layer], 0);
  if (all === 0 && now.alerts.total === 0) {
    const hosts = now.hosts.total;
    return (
      <Panel>
        <Empty icon={<ShieldCheck />} title={hosts ? text("now-quiet") : text("now-empty")} action={!hosts && <Link to={ENROL}>{text("now-enrol")}</Link>}>
          {hosts ? text("now-quiet-about") : text("now-empty-about")}
        </Empty>
      </Panel>
    );
  }
  return (
    <Panel title={text("now-stopped", { count: all })}>
      <div className={css.layers}>
        {LAYERS.map((layer) => (
          <Link key={layer} to={counted(layer, now)} className={css.layer}>
            <Figure value={format.number(now.stopped[layer])} name={text(`now-layer-${layer}`)} note={text(`now-layer-${layer}-note`)} />
          </Link>
        ))}
      </div>
    </Panel>
  );
}

function AlertsOverTime({ from }: { from: string }) {
  const text = useText();
  // The start moves with every answer; the question should not.
  const start = new Date(Math.floor(new Date(from).getTime() / 300_000) * 300_000).toISOString();
  const query = useQuery({
    queryKey: ["alerts", "histogram", start],
    queryFn: () => ask(api.GET("/api/v1/events/histogram", { params: { query: { q: `event.kind:alert and ${NEWS}`, by: "event.severity", from: start, to: new Date().toISOString(), buckets: 48 } } })),
    placeholderData: (before) => before,
  });
  return (
    <Asked query={query} lines={4}>
      {(data) => {
        const series = bySeverity(data, text);
        const times = data.buckets.map((bucket) => new Date(bucket.from).getTime());
        if (times.length === 0 || series.length === 0) return <p className="soft">{text("now-no-alerts")}</p>;
        return <Chart label={text("now-alerts")} times={times} width={data.width * 1_000} series={series} height={96} />;
      }}
    </Asked>
  );
}
