// Drafts: what somebody began to write and has not sent. They outlive a change of tab, a reload and a restart of the browser; each
// user has their own. What is sent or thrown away is forgotten.
import { useCallback, useMemo } from "react";
import { useKept } from "./kept";
import { useSession } from "./session";

/** The draft of this name, and the way to write it; `undefined` forgets it. */
export function useDraft<T>(name: string): [T | undefined, (draft: T | undefined) => void] {
  const { who } = useSession();
  const [text, keep] = useKept(`draft.${who.tenant}.${who.name}.${name}`);
  const draft = useMemo(() => (text === undefined ? undefined : read<T>(text)), [text]);
  const write = useCallback((draft: T | undefined) => keep(draft === undefined ? undefined : JSON.stringify(draft)), [keep]);
  return [draft, write];
}

/** Text that is typed and sent: what it begins with where there is no draft. */
export function useDrafted(name: string, first = ""): [string, (typed: string) => void, () => void] {
  const [draft, write] = useDraft<string>(name);
  const forget = useCallback(() => write(undefined), [write]);
  return [draft ?? first, useCallback((typed: string) => write(typed === first ? undefined : typed), [write, first]), forget];
}

function read<T>(text: string): T | undefined {
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined;
  }
}
