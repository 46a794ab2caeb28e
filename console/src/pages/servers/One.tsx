// One server: is it well, is it proven, what does it lack, which rules and policy has it, what is blocked and in quarantine there.
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { at, shown } from "../../api/document";
import { useAlertTitle } from "../../app/installation";
import { SERVERS, toAction, toAlert, toAlertsOfServer, toLedger } from "../../app/links";
import { useFormat } from "../../i18n/format";
import { useNamed, useText } from "../../i18n/words";
import { Facts, Page, Panel } from "../../parts/Page";
import { Severity } from "../../parts/Severity";
import { Asked, Badge, Dot } from "../../parts/State";
import { Tabs } from "../../parts/Tabs";
import { Ago } from "../../parts/Time";
import { AGENT_TONES, PROOF_TONES, PROVED } from "./model";
import { Effective } from "./Effective";
import { InEffect } from "./InEffect";
import { Manage } from "./Manage";
import css from "./Servers.module.css";

type Server = Schemas["Server"];

export default function One() {
  const text = useText();
  const { id = "" } = useParams();
  const server = useQuery({
    queryKey: ["agents", id],
    queryFn: () => ask(api.GET("/api/v1/agents/{id}/overview", { params: { path: { id } } })),
    refetchInterval: 10_000,
  });
  const name = server.data?.agent.name ?? text("servers-one");
  return (
    <Page title={name} about={<Link to={SERVERS}>{text("page-servers")}</Link>} actions={server.data && <Manage agent={server.data.agent} />}>
      <Asked query={server} lines={8}>
        {(server) => (
          <>
            <Head server={server} />
            <Tabs
              label={name}
              tabs={[
                { id: "modules", title: text("servers-modules"), content: () => <ModuleList server={server} /> },
                { id: "effect", title: text("servers-in-effect", { count: server.blocks_count + server.quarantine.length }), content: () => <InEffect server={server} /> },
                { id: "policy", title: text("servers-policy"), content: () => <Effective policy={server.policy} held={server.held} /> },
                { id: "lately", title: text("servers-lately"), content: () => <Lately server={server} /> },
              ]}
            />
          </>
        )}
      </Asked>
    </Page>
  );
}

function Head({ server }: { server: Server }) {
  const text = useText();
  const format = useFormat();
  const { agent, rules } = server;
  const host = agent.host as Record<string, unknown>;
  return (
    <Panel>
      <Facts
        items={[
          [text("servers-state"), <Dot tone={AGENT_TONES[agent.state]}>{text(`agent-${agent.state}`)}</Dot>],
          [text("servers-seen"), <Ago time={agent.last_seen} />],
          server.halted != null && [text("servers-halted"), <Badge tone="person">{server.halted}</Badge>],
          [text("servers-system"), [host.os_name, host.os_version, host.kernel, host.architecture].filter(Boolean).map(String).join(" · ")],
          [text("servers-addresses"), <span className="mono">{shown(host.addresses) || "—"}</span>],
          [text("servers-version"), server.version || "—"],
          [text("servers-rules"), (
            <Dot tone={rules.current ? "good" : "care"}>
              {text(rules.current ? "servers-rules-newest" : "servers-rules-older", { bundle: rules.bundle, newest: rules.newest })}
              {rules.age_seconds != null && ` · ${format.span(rules.age_seconds * 1_000)}`}
            </Dot>
          )],
          [text("servers-policy"), <Dot tone={server.policy_taken ? "good" : "care"}>{text(server.policy_taken ? "servers-policy-taken" : "servers-policy-waits", { number: server.policy.number })}</Dot>],
          [text("servers-tags"), agent.tags.length ? <span className="row">{agent.tags.map((tag) => <Badge key={tag}>{tag}</Badge>)}</span> : "—"],
          [text("servers-enrolled"), <Ago time={agent.enrolled} />],
          [text("servers-id"), <span className="mono">{agent.id}</span>],
        ]}
      />
    </Panel>
  );
}

function ModuleList({ server }: { server: Server }) {
  const text = useText();
  const modules = [...server.modules, { id: "uplink", state: "on", lacks: "", restarts: 0, proof: server.uplink, rules: null, traffic: null }];
  return (
    <div className={css.modules}>
      {modules.map((module) => (
        <section key={module.id} className={css.module}>
          <div className="row apart">
            <h3>{text(`module-${module.id}`)}</h3>
            <Badge tone={module.state === "on" ? "lead" : module.state === "off" ? "calm" : "person"}>{text(`module-state-${module.state}`)}</Badge>
          </div>
          {module.proof && module.state !== "off" && (
            <p>
              <Dot tone={PROOF_TONES[module.proof.state]}>{text(`proof-${module.proof.state}`)}</Dot>{" "}
              {module.proof.proven && <span className="soft small"><Ago time={module.proof.proven} /></span>}
            </p>
          )}
          {module.proof && module.state !== "off" && <Proof module={module.id} proof={module.proof} />}
          {module.lacks && <p>{module.lacks}</p>}
          {module.rules && <Loaded rules={module.rules} />}
          {module.traffic && <Traffic traffic={module.traffic} />}
          {module.restarts > 0 && <p className="soft small">{text("servers-restarts", { count: module.restarts })}</p>}
        </section>
      ))}
    </div>
  );
}

/** What the probe showed; what failed is told in the agent's own words. */
function Proof({ module, proof }: { module: string; proof: Schemas["ProofView"] }) {
  const text = useText();
  const format = useFormat();
  if (!PROVED.includes(proof.state)) return proof.detail ? <p className="soft small">{proof.detail}</p> : null;
  return <p className="soft small">{text(`proof-by-${module}`)}{proof.took_ms != null && ` (${format.milliseconds(proof.took_ms)})`}</p>;
}

function Loaded({ rules }: { rules: Schemas["ModuleRules"] }) {
  const text = useText();
  return (
    <>
      <p className="soft small">{text("servers-rules-loaded", { count: rules.loaded })}</p>
      {rules.refused > 0 && <p>{text("servers-rules-refused", { count: rules.refused, why: rules.why })}</p>}
    </>
  );
}

/** What was judged, and what was not seen. */
function Traffic({ traffic }: { traffic: Schemas["ModuleTraffic"] }) {
  const text = useText();
  const format = useFormat();
  return (
    <>
      <p className="soft small">{text("servers-traffic", { packets: format.number(traffic.packets), dropped: format.number(traffic.dropped) })}</p>
      <p className="soft small">{text("servers-traffic-unseen", { encrypted: format.number(traffic.encrypted), bytes: format.bytes(traffic.passed_over_bytes), unjudged: format.number(traffic.by_policy) })}</p>
    </>
  );
}

function Lately({ server }: { server: Server }) {
  const text = useText();
  const named = useNamed();
  const title = useAlertTitle();
  return (
    <div className="grid two">
      <Panel title={text("servers-alerts")} actions={<Link to={toAlertsOfServer(server.agent.id)}>{text("servers-all")}</Link>}>
        {server.alerts.length === 0 ? <p className="soft">{text("servers-no-alerts")}</p> : (
          <ul className={css.rows}>
            {server.alerts.map((alert) => (
              <li key={alert.id}>
                <Link to={toAlert(alert.id)}>{title(alert.event)}</Link>
                <Severity value={at(alert.event, "event.severity")} />
                <span className="soft small">{shown(at(alert.event, "source.ip"))}</span>
                <span className="soft small"><Ago time={at(alert.event, "@timestamp") as string} /></span>
              </li>
            ))}
          </ul>
        )}
      </Panel>
      <Panel title={text("servers-actions")} actions={<Link to={toLedger({ place: server.agent.id })}>{text("servers-all")}</Link>}>
        {server.actions.length === 0 ? <p className="soft">{text("servers-no-actions")}</p> : (
          <ul className={css.rows}>
            {server.actions.map((action) => {
              const order = at(action, "order");
              return (
                <li key={String(at(order, "id"))}>
                  <Link to={toAction(String(at(order, "id")))}>{named("response-action", String(at(order, "action")))}</Link>
                  <span className="soft">{named("response-state", String(at(action, "state")))}</span>
                  <span className="mono small">{shown(Object.values((at(order, "target") ?? {}) as object)[0])}</span>
                  <span className="soft small"><Ago time={at(action, "planned_at") as string} /></span>
                </li>
              );
            })}
          </ul>
        )}
      </Panel>
    </div>
  );
}
