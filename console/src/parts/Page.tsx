// The frame of a page: its title, a sentence, what can be done on it; and the panels it is made of.
import { useEffect, type ReactNode } from "react";
import { useText } from "../i18n/words";
import css from "./Page.module.css";

export function Page({ title, about, actions, children }: { title: string; about?: ReactNode; actions?: ReactNode; children: ReactNode }) {
  const text = useText();
  useEffect(() => {
    document.title = `${title} · ${text("sakimori")}`;
  }, [title, text]);
  return (
    <div className={css.page}>
      <header className={css.head}>
        <div className="grow">
          <h1>{title}</h1>
          {about && <p className="soft">{about}</p>}
        </div>
        {actions && <div className="row">{actions}</div>}
      </header>
      {children}
    </div>
  );
}

export function Panel({ title, about, actions, children, flush }: { title?: ReactNode; about?: ReactNode; actions?: ReactNode; children: ReactNode; flush?: boolean }) {
  return (
    <section className={css.panel}>
      {(title || actions) && (
        <header className={css.top}>
          <div className="grow">
            {title && <h2>{title}</h2>}
            {about && <p className="soft small">{about}</p>}
          </div>
          {actions && <div className="row">{actions}</div>}
        </header>
      )}
      <div className={flush ? css.flush : css.body}>{children}</div>
    </section>
  );
}

/** Names and values. */
export function Facts({ items }: { items: (readonly [name: string, value: ReactNode] | false | undefined)[] }) {
  return (
    <dl className={css.facts}>
      {items.map((item) => item && (
        <div key={item[0]}>
          <dt>{item[0]}</dt>
          <dd>{item[1]}</dd>
        </div>
      ))}
    </dl>
  );
}

/** One number that matters, with what it counts. */
export function Figure({ value, name, note, tone }: { value: ReactNode; name: string; note?: ReactNode; tone?: "person" }) {
  return (
    <div className={css.figure} data-tone={tone}>
      <span className={css.number}>{value}</span>
      <span className={css.name}>{name}</span>
      {note && <span className="soft small">{note}</span>}
    </div>
  );
}
