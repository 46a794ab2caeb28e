// Who did what, in a chain of hashes that can be verified.
import { useInfiniteQuery, useMutation } from "@tanstack/react-query";
import { ShieldCheck } from "lucide-react";
import { useCallback, useMemo } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Panel } from "../../parts/Page";
import { Dot, Fault, Waiting } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Moment } from "../../parts/Time";

type Entry = Schemas["AuditEntry"];

export function Audit() {
  const text = useText();
  const format = useFormat();
  const query = useInfiniteQuery({
    queryKey: ["audit"],
    queryFn: ({ pageParam }) => ask(api.GET("/api/v1/audit", { params: { query: { limit: 200, cursor: pageParam } } })),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next ?? undefined,
  });
  const verify = useMutation({ mutationFn: () => ask(api.GET("/api/v1/audit/verify")) });
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.items) ?? [], [query.data]);
  const { hasNextPage, isFetching, fetchNextPage } = query;
  const end = useCallback(() => {
    if (hasNextPage && !isFetching) void fetchNextPage({ cancelRefetch: false });
  }, [hasNextPage, isFetching, fetchNextPage]);
  const entries = verify.data?.chains.reduce((sum, chain) => sum + Number(chain.entries ?? 0), 0) ?? 0;
  return (
    <Panel
      flush title={text("settings-audit")} about={text("settings-audit-about")}
      actions={
        <>
          {verify.data && <Dot tone={verify.data.whole ? "good" : "person"}>{verify.data.whole ? text("settings-audit-whole", { count: format.number(entries) }) : text("settings-audit-broken")}</Dot>}
          <Button icon={<ShieldCheck />} isPending={verify.isPending} onPress={() => verify.mutate()}>{text("settings-audit-verify")}</Button>
        </>
      }
    >
      {verify.error ? <Fault error={verify.error} /> : null}
      {verify.data?.breaks.map((broken, index) => <p key={index} className="mono small">{JSON.stringify(broken)}</p>)}
      {query.isPending ? <Waiting /> : query.error && rows.length === 0 ? <Fault error={query.error} onRetry={() => void query.refetch()} /> : (
        <Table
          label={text("settings-audit")} rows={rows} keyOf={(entry) => `${entry.tenant} ${entry.sequence}`} height="70vh" onEnd={end}
          columns={[
            { id: "time", title: text("settings-when"), width: "10rem", cell: (entry: Entry) => <Moment time={entry.time} /> },
            { id: "actor", title: text("settings-who"), width: "minmax(8rem, 1.4fr)", cell: (entry: Entry) => entry.actor },
            { id: "action", title: text("settings-what"), width: "minmax(8rem, 1fr)", cell: (entry: Entry) => <span className="mono">{entry.action}</span> },
            { id: "target", title: text("settings-on-what"), width: "minmax(8rem, 1.6fr)", cell: (entry: Entry) => <span className="mono">{entry.target}</span> },
            { id: "address", title: text("settings-from-where"), width: "8rem", cell: (entry: Entry) => <span className="mono">{entry.address || "—"}</span> },
          ]}
        />
      )}
    </Panel>
  );
}
