// A sentence about what was just done, said to screen readers too. It goes by itself.
import { createContext, useCallback, useContext, useRef, useState, type ReactNode } from "react";
import css from "./Notice.module.css";

const Context = createContext<(words: string) => void>(() => undefined);
const SHOWN = 6_000;

export function NoticeProvider({ children }: { children: ReactNode }) {
  const [notices, setNotices] = useState<{ id: number; words: string }[]>([]);
  const next = useRef(0);
  const say = useCallback((words: string) => {
    const id = next.current++;
    setNotices((notices) => [...notices.slice(-3), { id, words }]);
    setTimeout(() => setNotices((notices) => notices.filter((notice) => notice.id !== id)), SHOWN);
  }, []);
  return (
    <Context.Provider value={say}>
      {children}
      <div className={css.notices} role="status" aria-live="polite">
        {notices.map((notice) => <div key={notice.id} className={css.notice}>{notice.words}</div>)}
      </div>
    </Context.Provider>
  );
}

/** Says what was done. */
export const useNotice = () => useContext(Context);
