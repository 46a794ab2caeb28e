// Channels to people with a test button, and what was sent, with dead letters that can be sent again.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { BellRing, RotateCcw } from "lucide-react";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Choose } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Panel } from "../../parts/Page";
import { Asked, Badge, Empty, Fault, type Tone } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago } from "../../parts/Time";

type Message = Schemas["Message"];
type Channel = Schemas["Channel"];
const TONES: Record<string, Tone> = { sent: "good", waiting: "calm", sending: "lead", dead: "person" };
const STATES = ["all", "waiting", "sent", "dead"] as const;

export function Notifications() {
  const text = useText();
  const { can } = useSession();
  const say = useNotice();
  const queries = useQueryClient();
  const [state, setState] = useState<(typeof STATES)[number]>("all");
  const channels = useQuery({ queryKey: ["channels"], queryFn: () => ask(api.GET("/api/v1/channels")) });
  const messages = useQuery({
    queryKey: ["messages", state],
    queryFn: () => ask(api.GET("/api/v1/messages", { params: { query: { limit: 200, state: state === "all" ? undefined : state } } })),
    refetchInterval: 5_000,
  });
  const again = () => queries.invalidateQueries({ queryKey: ["messages"] });
  const test = useMutation({
    mutationFn: (name: string) => ask(api.POST("/api/v1/channels/{name}/test", { params: { path: { name } } })),
    onSuccess: (_, name) => {
      say(text("settings-test-sent", { name }));
      return again();
    },
  });
  const retry = useMutation({ mutationFn: (id: string) => ask(api.POST("/api/v1/messages/{id}/retry", { params: { path: { id } } })), onSuccess: again });
  return (
    <div className="stack wide">
      <Panel flush title={text("settings-channels")} about={text("settings-channels-about")}>
        <Asked query={channels}>
          {({ items }) => (
            <Table
              label={text("settings-channels")} rows={items} keyOf={(channel) => channel.name}
              empty={<Empty icon={<BellRing />} title={text("settings-no-channel")}>{text("settings-no-channel-about")}</Empty>}
              columns={[
                { id: "name", title: text("name"), cell: (channel: Channel) => channel.name },
                { id: "kind", title: text("settings-kind"), cell: (channel: Channel) => channel.kind },
                { id: "language", title: text("settings-language"), cell: (channel: Channel) => channel.language },
                { id: "rate", title: text("settings-a-minute"), cell: (channel: Channel) => channel.per_minute },
                { id: "test", title: "", width: "12rem", cell: (channel: Channel) => can("messages:send") && <Button isPending={test.isPending && test.variables === channel.name} onPress={() => test.mutate(channel.name)}>{text("settings-test")}</Button> },
              ]}
            />
          )}
        </Asked>
        {test.error ? <Fault error={test.error} /> : null}
      </Panel>
      <Panel flush title={text("settings-messages")} actions={<Choose bare label={text("settings-state")} value={state} onChange={setState} choices={STATES.map((id) => ({ id, name: text(`settings-message-${id}`) }))} />}>
        <Asked query={messages}>
          {({ items }) => (
            <Table
              label={text("settings-messages")} rows={items} keyOf={(message) => message.id} height="60vh"
              empty={<Empty title={text("settings-no-message")} />}
              columns={[
                { id: "created", title: text("settings-made"), width: "8rem", cell: (message: Message) => <Ago time={message.created} /> },
                { id: "channel", title: text("settings-channel"), width: "8rem", cell: (message: Message) => message.channel },
                { id: "state", title: text("settings-state"), width: "8rem", cell: (message: Message) => <Badge tone={TONES[message.state]}>{text(`settings-message-${message.state}`)}</Badge> },
                { id: "subject", title: text("settings-subject"), width: "minmax(14rem, 3fr)", cell: (message: Message) => <>{message.subject}{message.reason && <span className="soft small"> — {message.reason}</span>}</> },
                { id: "retry", title: "", width: "3rem", cell: (message: Message) => message.state === "dead" && can("messages:send") && <Button weight="quiet" icon={<RotateCcw />} label={text("settings-send-again")} onPress={() => retry.mutate(message.id)} /> },
              ]}
            />
          )}
        </Asked>
      </Panel>
    </div>
  );
}
