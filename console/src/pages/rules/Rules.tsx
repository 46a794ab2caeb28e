// Rules of all languages: what each does for whom, how often it fired, the noisy ones with a proposal, and exceptions.
import { useText } from "../../i18n/words";
import { Page } from "../../parts/Page";
import { Tabs } from "../../parts/Tabs";
import { Exceptions } from "./Exceptions";
import { List } from "./List";
import { Noisy } from "./Noisy";
import { Workbench } from "./Workbench";

export default function Rules() {
  const text = useText();
  return (
    <Page title={text("page-rules")} about={text("rules-about")}>
      <Tabs
        label={text("page-rules")}
        tabs={[
          { id: "list", title: text("rules-list"), content: () => <List /> },
          { id: "noisy", title: text("rules-noisy"), content: () => <Noisy /> },
          { id: "exceptions", title: text("rules-exceptions"), content: () => <Exceptions /> },
          { id: "check", title: text("rules-check"), content: () => <Workbench /> },
        ]}
      />
    </Page>
  );
}
