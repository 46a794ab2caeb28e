// Several views of one thing. The one that is open is in the address, so that a link leads to it.
import { Tab, TabList, TabPanel, Tabs as Primitive } from "react-aria-components";
import { useSearchParams } from "react-router";
import { useEffect, useRef, type ReactNode } from "react";
import css from "./Tabs.module.css";

interface Props {
  label: string;
  /** Name of the address's parameter. */
  name?: string;
  tabs: readonly { id: string; title: ReactNode; content: () => ReactNode }[];
}

export function Tabs({ label, name = "tab", tabs }: Props) {
  const [search, setSearch] = useSearchParams();
  const open = tabs.find((tab) => tab.id === search.get(name))?.id ?? tabs[0]!.id;
  const choose = (id: string) =>
    setSearch((search) => {
      search.set(name, id);
      return search;
    }, { replace: true });
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // On a phone the row of tabs is wider than the page: it is moved, the page is not; again where the phone is turned.
    const moved = new ResizeObserver(() => {
      const box = list.current;
      const tab = box?.querySelector("[aria-selected=true]")?.getBoundingClientRect();
      if (!box || !tab) return;
      const { left, right } = box.getBoundingClientRect();
      box.scrollLeft += Math.max(0, tab.right - right) + Math.min(0, tab.left - left);
    });
    moved.observe(list.current!);
    return () => moved.disconnect();
  }, [open]);
  return (
    <Primitive selectedKey={open} onSelectionChange={(key) => choose(String(key))} className={css.tabs!}>
      <TabList ref={list} aria-label={label} className={css.list!}>
        {tabs.map((tab) => <Tab key={tab.id} id={tab.id} className={css.tab!}>{tab.title}</Tab>)}
      </TabList>
      {tabs.map((tab) => (
        <TabPanel key={tab.id} id={tab.id} className={css.panel!}>{tab.id === open && tab.content()}</TabPanel>
      ))}
    </Primitive>
  );
}
