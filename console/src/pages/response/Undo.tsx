// Taking back: one action, all of a kind, all of an execution. Each asks first.
import { api, ask } from "../../api/client";
import { useText } from "../../i18n/words";
import { Confirm } from "../../parts/Dialog";
import { useNotice } from "../../parts/Notice";
import { useAgain } from "./asked";
import { targetOf, type Action } from "./model";
import { useNames } from "./names";

/** Most requests for all of a kind: each takes back two thousand. */
const MOST_TURNS = 100;

export function UndoOne({ action, onClose }: { action: Action | undefined; onClose: () => void }) {
  const text = useText();
  const names = useNames();
  const say = useNotice();
  const again = useAgain();
  if (!action) return null;
  const what = { action: names.action(action.order.action), target: targetOf(action.order), place: names.place(action.place) };
  const undo = async () => {
    await ask(api.POST("/api/v1/actions/{id}/undo", { params: { path: { id: action.order.id } } }));
    say(text("response-undo-begun", what));
    again();
  };
  return (
    <Confirm title={text("response-undo-title")} action={text("response-undo")} open onClose={onClose} onConfirm={undo}>
      <p>{text("response-undo-what", what)}</p>
      <p className="soft">{text("response-undo-grace")}</p>
    </Confirm>
  );
}

export function UndoKind({ kind, count, onClose }: { kind: string | undefined; count: number; onClose: () => void }) {
  const text = useText();
  const names = useNames();
  const say = useNotice();
  const again = useAgain();
  if (kind === undefined) return null;
  const undo = async () => {
    let undone = 0;
    for (let turn = 0; turn < MOST_TURNS; turn++) {
      const answer = await ask(api.POST("/api/v1/actions/undo", { body: { action: kind } }));
      undone += answer.undone;
      if (!answer.more || answer.undone === 0) break;
    }
    say(text("response-undo-kind-begun", { count: undone }));
    again();
  };
  return (
    <Confirm title={text("response-undo-kind-title")} action={text("response-undo-kind")} danger open onClose={onClose} onConfirm={undo}>
      <p>{text("response-undo-kind-what", { action: names.action(kind), count })}</p>
      <p className="soft">{text("response-undo-grace")}</p>
    </Confirm>
  );
}

export function UndoExecution({ id, open, onClose }: { id: string; open: boolean; onClose: () => void }) {
  const text = useText();
  const say = useNotice();
  const again = useAgain();
  const undo = async () => {
    await ask(api.POST("/api/v1/executions/{id}/undo", { params: { path: { id } } }));
    say(text("response-undo-execution-begun"));
    again();
  };
  return (
    <Confirm title={text("response-undo-execution-title")} action={text("response-undo-execution")} danger open={open} onClose={onClose} onConfirm={undo}>
      <p>{text("response-undo-execution-what")}</p>
      <p className="soft">{text("response-undo-grace")}</p>
    </Confirm>
  );
}
