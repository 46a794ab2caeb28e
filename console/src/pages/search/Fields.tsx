// Every field of an event, and from each value a way to everything else that has it.
import { Filter, FilterX } from "lucide-react";
import { leaves, shown, term } from "../../api/document";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import css from "./Search.module.css";

/** Values that are longer are shown as the original. */
const LONGEST = 4_000;

export function Fields({ document, onPivot }: { document: unknown; onPivot: (q: string) => void }) {
  const text = useText();
  return (
    <div>
      {leaves(document).map(([name, value]) => (
        <div key={name} className={css.field}>
          <span className="mono soft">{name}</span>
          <span className="mono">{shown(value).slice(0, LONGEST)}</span>
          <span className={css.pivots}>
            {typeof value !== "object" && (
              <>
                <Button weight="quiet" icon={<Filter />} label={text("search-only", { field: name })} onPress={() => onPivot(term(name, value))} />
                <Button weight="quiet" icon={<FilterX />} label={text("search-without", { field: name })} onPress={() => onPivot(`not ${term(name, value)}`)} />
              </>
            )}
          </span>
        </div>
      ))}
    </div>
  );
}
