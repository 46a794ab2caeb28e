// Blocks in effect, with the time that each has left. Every one ends by itself.
import { Link } from "react-router";
import type { Schemas } from "../../api/client";
import { useRuleTitle } from "../../app/installation";
import { toAction } from "../../app/links";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { useNow } from "../../parts/Time";
import css from "./Now.module.css";

const SHOWN = 7;

export function Blocks({ blocks }: { blocks: Schemas["Blocks"] }) {
  const text = useText();
  const format = useFormat();
  const title = useRuleTitle();
  const now = useNow(5_000);
  if (blocks.items.length === 0) return <p className="soft">{text("now-no-blocks")}</p>;
  return (
    <ul className={css.list}>
      {blocks.items.slice(0, SHOWN).map((block) => (
        <li key={block.id}>
          <span>
            <Link to={toAction(block.id)} className="mono">{block.target}</Link>
            <span className="soft small"> {text(block.action === "waf_block" ? "now-in-waf" : "now-on-host")}</span>
          </span>
          <span className="soft">{block.until ? text("now-left", { span: format.span(Math.max(0, new Date(block.until).getTime() - now)) }) : "—"}</span>
          {block.rule && <span className="soft small">{title(block.rule, block.title)}</span>}
        </li>
      ))}
    </ul>
  );
}
