// One playbook: drawn beside its text, the texts that it had, what it would do about an alert of the past, and what it would have
// done in the last days.
import { Power, PowerOff } from "lucide-react";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { toResponse } from "../../app/links";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Code } from "../../parts/Code";
import { Facts, Page, Panel } from "../../parts/Page";
import { Asked, Dot, Empty } from "../../parts/State";
import { Tabs } from "../../parts/Tabs";
import { usePlaybooks } from "./asked";
import { useBoxes } from "./boxes";
import { DryRun } from "./DryRun";
import { Executions } from "./Executions";
import { Graph } from "./Graph";
import { useNames } from "./names";
import type { StepBox } from "./parse";
import { Acts, Turn, type Playbook } from "./Playbooks";
import { Rehearse } from "./Rehearse";
import { Revisions } from "./Revisions";
import css from "./Response.module.css";

export default function PlaybookPage() {
  const text = useText();
  const { id = "" } = useParams();
  const query = usePlaybooks();
  const found = query.data && { playbook: query.data.items.find((one) => one.id === id) };
  return (
    <Asked query={{ ...query, data: found }}>
      {({ playbook }) => playbook ? <One key={id} playbook={playbook} /> : (
        <Page title={id}>
          <Empty title={text("response-playbook-gone")} action={<Link to={toResponse("playbooks")}>{text("response-playbooks")}</Link>}>{text("response-playbook-gone-about")}</Empty>
        </Page>
      )}
    </Asked>
  );
}

function One({ playbook }: { playbook: Playbook }) {
  const text = useText();
  const names = useNames();
  const { can } = useSession();
  const [turning, setTurning] = useState<Playbook>();
  const turn = can("policies:write") && (
    <Button icon={playbook.on ? <PowerOff /> : <Power />} onPress={() => setTurning(playbook)}>{text(playbook.on ? "response-turn-off-do" : "response-turn-on-do")}</Button>
  );
  const tabs = [
    { id: "steps", title: text("response-tab-steps"), content: () => <Drawn playbook={playbook} /> },
    can("playbooks:run") && { id: "dry-run", title: text("response-tab-dry-run"), content: () => <DryRun playbook={playbook} /> },
    { id: "past", title: text("response-tab-past"), content: () => <Rehearse playbook={playbook} /> },
    playbook.stepwise && can("executions:read") && { id: "executions", title: text("response-tab-executions"), content: () => <Executions of={playbook.id} /> },
    { id: "revisions", title: text("response-tab-revisions"), content: () => <Revisions id={playbook.id} current={playbook.revision} /> },
  ].filter((tab) => tab !== false);
  return (
    <Page title={names.playbook(playbook.id)} about={<Link to={toResponse("playbooks")}>{text("response-playbooks")}</Link>} actions={turn}>
      <Panel>
        <div className={css.wide}><Facts items={[
          [text("response-runs"), <Dot key="on" tone={playbook.on ? "good" : "calm"}>{text(playbook.on ? "response-on" : "response-off")}</Dot>],
          [text("response-id"), <span className="mono" key="id">{playbook.id}</span>],
          [text("response-scope"), text(playbook.scope === "host" ? "response-scope-host-about" : "response-scope-wide-about")],
          [text("response-trigger"), names.trigger(playbook.trigger)],
          [text("response-driven"), text(playbook.stepwise ? "response-stepwise" : "response-plain")],
          [text("response-file"), <span className="mono" key="file">{playbook.file}</span>],
        ]} /></div>
        <p className={css.more}><span className="soft">{text("response-may-do")}</span> <Acts playbook={playbook} /></p>
      </Panel>
      <Tabs label={names.playbook(playbook.id)} tabs={tabs} />
      <Turn playbook={turning} onClose={() => setTurning(undefined)} />
    </Page>
  );
}

function Drawn({ playbook }: { playbook: Playbook }) {
  const text = useText();
  const read = useBoxes(playbook.text);
  const [shown, setShown] = useState<StepBox>();
  return (
    <div className={css.beside}>
      <Panel title={text("response-graph")} about={text("response-graph-about")}>
        <Asked query={read}>{({ boxes }) => <Graph boxes={boxes} current={shown?.place} onChoose={(box) => setShown(box.place === shown?.place ? undefined : box)} />}</Asked>
      </Panel>
      <Panel title={text("response-text")}>
        <Code value={playbook.text} language="yaml" label={text("response-text")} readOnly lines={shown?.lines} maxHeight="70vh" />
      </Panel>
    </div>
  );
}

