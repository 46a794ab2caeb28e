// Signing in. The page says nothing about the installation to somebody who is not signed in.
import { useQueryClient } from "@tanstack/react-query";
import { Languages } from "lucide-react";
import { useEffect, useState, type FormEvent } from "react";
import { api, ask, Problem } from "../api/client";
import { useFormat } from "../i18n/format";
import { useText, useWords } from "../i18n/words";
import { Button } from "../parts/Button";
import { Field } from "../parts/Field";
import { Fault } from "../parts/State";
import css from "./SignIn.module.css";

export function SignIn() {
  const text = useText();
  const format = useFormat();
  const { language, choose } = useWords();
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();

  useEffect(() => {
    document.title = `${text("sign-in")} · ${text("sakimori")}`;
  }, [text]);

  const enter = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await ask(api.POST("/api/v1/session", { body: { name, password, browser: true } }));
      await queries.invalidateQueries({ queryKey: ["session"] });
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  const wait = error instanceof Problem ? error.wait : undefined;

  return (
    <main className={css.page}>
      <form className={css.card} onSubmit={(event) => void enter(event)}>
        <div className={css.mark}>
          <img src="/mark.svg" width="40" height="40" alt="" />
          <h1>{text("sakimori")}</h1>
        </div>
        <Field label={text("name")} value={name} onChange={setName} autoComplete="username" autoFocus isRequired validationBehavior="aria" />
        <Field label={text("password")} type="password" value={password} onChange={setPassword} autoComplete="current-password" isRequired validationBehavior="aria" />
        {error !== undefined && <Fault error={error} />}
        {wait !== undefined && <p className="soft small">{text("sign-in-wait", { span: format.span(wait * 1_000) })}</p>}
        <Button weight="primary" type="submit" isPending={busy} isDisabled={!name || !password}>{text("sign-in")}</Button>
        <p className="soft small">{text("sign-in-first")}</p>
        <Button weight="quiet" icon={<Languages />} onPress={() => choose(language === "en" ? "ja" : "en")}>{text("language-other")}</Button>
      </form>
    </main>
  );
}
