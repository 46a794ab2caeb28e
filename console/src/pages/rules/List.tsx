// The list of rules, filtered by what stands in the address.
import { useInfiniteQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useState } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { toRule } from "../../app/links";
import { useFormat } from "../../i18n/format";
import { useText, useWords } from "../../i18n/words";
import { Choose, Field } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { LEVELS, Severity } from "../../parts/Severity";
import { Badge, Empty, Fault, Waiting } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago } from "../../parts/Time";
import { RuleState } from "./RuleState";
import css from "./Rules.module.css";

type Rule = Schemas["Rule"];
const LANGUAGES = ["sigma", "correlation", "suricata", "yara", "hash"];
const STATES = ["on", "off", "detect", "prevent", "trial"];
/** How long the typing has to rest before the manager is asked. */
const RESTS = 250;

export function List() {
  const text = useText();
  const format = useFormat();
  const { language } = useWords();
  const navigate = useNavigate();
  const [search, setSearch] = useSearchParams();
  const filter = (name: string) => search.get(name) ?? "";
  const set = useCallback(
    (name: string, value: string) =>
      setSearch((search) => {
        if (value && value !== "all") search.set(name, value);
        else search.delete(name);
        return search;
      }, { replace: true }),
    [setSearch],
  );
  const [part, setPart] = useState(filter("q"));
  useEffect(() => {
    const timer = setTimeout(() => part !== (search.get("q") ?? "") && set("q", part), RESTS);
    return () => clearTimeout(timer);
  }, [part, search, set]);
  const asked = { q: filter("q") || undefined, language: filter("language") || undefined, severity: filter("severity") || undefined, state: filter("state") || undefined, sort: filter("sort") || undefined };
  const query = useInfiniteQuery({
    queryKey: ["rules", asked],
    queryFn: ({ pageParam }) => ask(api.GET("/api/v1/rules", { params: { query: { ...asked, limit: 200, cursor: pageParam } } })),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next ?? undefined,
    placeholderData: (before) => before,
  });
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.items) ?? [], [query.data]);
  const { hasNextPage, isFetching, fetchNextPage } = query;
  const end = useCallback(() => {
    if (hasNextPage && !isFetching) void fetchNextPage({ cancelRefetch: false });
  }, [hasNextPage, isFetching, fetchNextPage]);
  const all = (name: string, ids: readonly string[], prefix: string) => [{ id: "all", name: text(`rules-any-${name}`) }, ...ids.map((id) => ({ id, name: text(`${prefix}-${id}`) }))];

  if (query.isPending) return <Panel><Waiting lines={8} /></Panel>;
  if (query.error && rows.length === 0) return <Fault error={query.error} onRetry={() => void query.refetch()} />;
  return (
    <Panel flush title={text("rules-count", { count: query.data?.pages[0]?.total ?? 0 })} about={text("rules-bundle", { bundle: query.data?.pages[0]?.bundle ?? 0 })}>
      <div className={css.filters} data-search>
        <Field label={text("rules-find")} value={part} onChange={setPart} type="search" />
        <Choose label={text("rules-language")} value={filter("language") || "all"} choices={all("language", LANGUAGES, "language")} onChange={(id) => set("language", id)} />
        <Choose label={text("rules-severity")} value={filter("severity") || "all"} choices={all("severity", LEVELS, "severity")} onChange={(id) => set("severity", id)} />
        <Choose label={text("rules-state")} value={filter("state") || "all"} choices={all("state", STATES, "rule-state")} onChange={(id) => set("state", id)} />
        <Choose label={text("rules-sort")} value={filter("sort") || "id"} choices={["id", "hits"].map((id) => ({ id, name: text(`rules-sort-${id}`) }))} onChange={(id) => set("sort", id === "id" ? "" : id)} />
      </div>
      <Table
        label={text("rules-list")} rows={rows} keyOf={(rule) => rule.id} height="68vh" onEnd={end} onOpen={(rule) => void navigate(toRule(rule.id))}
        empty={<Empty title={text("rules-no-match")} />}
        columns={[
          { id: "title", title: text("rules-rule"), width: "minmax(16rem, 3fr)", cell: (rule: Rule) => <span>{(language === "ja" && rule.title_ja) || rule.title} <span className="soft small mono">{rule.id}</span></span> },
          { id: "language", title: text("rules-language"), width: "8rem", cell: (rule: Rule) => <Badge>{text(`language-${rule.language}`)}</Badge> },
          { id: "severity", title: text("rules-severity"), width: "6.5rem", cell: (rule: Rule) => <Severity value={rule.severity} /> },
          { id: "state", title: text("rules-state"), width: "8rem", cell: (rule: Rule) => <RuleState rule={rule} /> },
          { id: "week", title: text("rules-week"), width: "6rem", end: true, cell: (rule: Rule) => format.compact(rule.hits.week) },
          { id: "last", title: text("rules-last"), width: "8rem", cell: (rule: Rule) => <Ago time={rule.hits.last} /> },
        ]}
      />
    </Panel>
  );
}
