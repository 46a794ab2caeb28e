// What saving would change, and for whom; and the choice to save for all or to begin with some.
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { shown } from "../../api/document";
import { useDrafted } from "../../app/drafts";
import { useText, useWords } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Dialog } from "../../parts/Dialog";
import { Choose, Field } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { ReasonField } from "../../parts/ReasonField";
import { Badge, Fault } from "../../parts/State";
import type { Tree } from "./Policies";
import css from "./Policies.module.css";

type Changes = Schemas["PolicyDifference"];

interface Props {
  layer: string;
  tree: Tree;
  over: number;
  difference: Changes;
  onClose: () => void;
  onWritten: () => Promise<void>;
}

const HOW = ["all", "staged"] as const;

export function Difference({ layer, tree, over, difference, onClose, onWritten }: Props) {
  const text = useText();
  const say = useNotice();
  const [how, setHow] = useState<(typeof HOW)[number]>("all");
  const [percent, setPercent] = useState("10");
  const [minutes, setMinutes] = useState("60");
  const [reason, setReason, forget] = useDrafted(`policy.${layer}.reason`);
  const [state, setState] = useState<{ busy: boolean; error?: unknown }>({ busy: false });
  const nothing = difference.settings.length === 0;
  const save = async () => {
    setState({ busy: true });
    try {
      if (how === "all") await ask(api.PUT("/api/v1/policies/layers/{layer}", { params: { path: { layer } }, body: { tree: tree as never, over, reason: reason.trim() } }));
      else await ask(api.POST("/api/v1/policies/rollouts", { body: { layer, tree: tree as never, over, first: { percent: Number(percent) }, minutes: Number(minutes) || null, reason: reason.trim() } }));
      say(text(how === "all" ? "policies-saved" : "policies-rollout-begun"));
      forget();
      await onWritten();
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return (
    <Dialog
      title={text("policies-difference")} open onClose={onClose}
      foot={<><Button onPress={onClose}>{text("policies-go-on")}</Button><Button weight="primary" isPending={state.busy} isDisabled={nothing} onPress={() => void save()}>{text(how === "all" ? "save" : "policies-rollout-begin")}</Button></>}
    >
      <div className="stack">
        {nothing ? <p>{text("policies-no-difference")}</p> : <Settings settings={difference.settings} />}
        <p>{text("policies-affects", { affected: difference.affected, hosts: difference.hosts })}</p>
        {difference.groups.map((group) => (
          <p key={group.layers.join()} className="row">
            {group.named.slice(0, 12).map((host) => <Badge key={host.agent} tone={host.connected ? "lead" : "calm"}>{host.host}</Badge>)}
            {group.hosts > 12 && <span className="soft small">{text("policies-and-more", { count: group.hosts - 12 })}</span>}
          </p>
        ))}
        {!nothing && !layer.startsWith("host:") && difference.affected > 1 && (
          <Choose label={text("policies-how")} value={how} onChange={setHow} choices={HOW.map((id) => ({ id, name: text(`policies-how-${id}`), about: text(`policies-how-${id}-about`) }))} />
        )}
        {how === "staged" && (
          <>
            <Field label={text("policies-percent")} type="number" value={percent} onChange={setPercent} />
            <Field label={text("policies-minutes")} help={text("policies-minutes-about")} type="number" value={minutes} onChange={setMinutes} />
          </>
        )}
        {!nothing && <ReasonField help={text("policies-reason-about")} value={reason} onChange={setReason} />}
        {state.error !== undefined && <Fault error={state.error} />}
      </div>
    </Dialog>
  );
}

export function Settings({ settings }: { settings: Changes["settings"] }) {
  const text = useText();
  const { language } = useWords();
  return (
    <div>
      {settings.map((change) => (
        <div key={change.path} className={css.change}>
          <span>{(language === "ja" && change.title_ja) || change.title} <span className="mono soft small">{change.path}</span></span>
          <span className={`mono ${css.before}`}>{change.before === undefined ? text("policies-unset") : shown(change.before) || "—"}</span>
          <span className={`mono ${css.after}`}>{change.after === undefined ? text("policies-inherits") : shown(change.after) || "—"}</span>
        </div>
      ))}
    </div>
  );
}
