// Signing in: name and password, and a code where one is needed; or a passkey, or a provider. The page says nothing about the
// installation to somebody who is not signed in. The address stays: what was asked for comes after.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Languages } from "lucide-react";
import { useEffect, useState, type FormEvent } from "react";
import { api, ask, Problem } from "../api/client";
import { useFormat } from "../i18n/format";
import { useText, useWords } from "../i18n/words";
import { Button } from "../parts/Button";
import { Field } from "../parts/Field";
import { Fault } from "../parts/State";
import { useNow } from "../parts/Time";
import { PasskeyWay, ProviderWays, returned } from "./ways";
import css from "./SignIn.module.css";

/** What a manager that cannot be asked has at least. */
const LEAST = { password: true, passkeys: false, single_sign_on: [] };

export function SignIn() {
  const text = useText();
  const { language, choose } = useWords();
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  // Undefined until somebody says that there is one: who is of all tenants, or of the only one, names none.
  const [tenant, setTenant] = useState<string>();
  // Undefined until the manager says that a code is needed.
  const [code, setCode] = useState<string>();
  const [busy, setBusy] = useState(false);
  const [tried, setTried] = useState(false);
  const [error, setError] = useState<unknown>();
  const [free, setFree] = useState(0);
  const ways = useQuery({ queryKey: ["sign-in"], queryFn: () => ask(api.GET("/api/v1/sign-in")), staleTime: 0 }).data ?? LEAST;

  useEffect(() => {
    document.title = `${text("sign-in")} · ${text("sakimori")}`;
  }, [text]);

  const fail = (fault: unknown) => {
    setTried(true);
    setError(fault);
    setFree(fault instanceof Problem && fault.wait ? Date.now() + fault.wait * 1_000 : 0);
  };
  // What the page had loaded for somebody else is not shown to who comes next.
  const done = async () => {
    queries.removeQueries({ predicate: ({ queryKey: [first] }) => first !== "session" && first !== "sign-in" });
    await queries.invalidateQueries({ queryKey: ["session"] });
  };
  const enter = async (event: FormEvent) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    fail(undefined);
    try {
      await ask(api.POST("/api/v1/session", { body: { name, password, tenant: tenant?.trim() || undefined, code: code?.trim() || undefined, browser: true } }));
      await done();
    } catch (problem) {
      const needed = problem instanceof Problem && problem.code === "auth/code-needed";
      if (needed) setCode("");
      if (!needed || code !== undefined) fail(problem);
      if (problem instanceof Problem && problem.code === "auth/code") setCode("");
    } finally {
      setBusy(false);
    }
  };
  const back = () => {
    setCode(undefined);
    setPassword("");
    fail(undefined);
  };
  const shown = tried ? error : returned(location.search, text);
  const waits = useNow(1_000) < free;

  return (
    <main className={css.page}>
      <div className={css.card}>
        <div className={css.mark}>
          <img src="/mark.svg" width="40" height="40" alt="" />
          <h1>{text("sakimori")}</h1>
        </div>
        {shown !== undefined && <Fault error={shown} />}
        {waits && <Wait until={free} />}
        {ways.password && (
          <form className={css.form} onSubmit={(event) => void enter(event)}>
            {code === undefined ? (
              <>
                <Field label={text("name")} value={name} onChange={setName} autoComplete="username" autoFocus isRequired validationBehavior="aria" />
                <Field label={text("password")} type="password" value={password} onChange={setPassword} autoComplete="current-password" isRequired validationBehavior="aria" />
                {tenant !== undefined && <Field label={text("sign-in-tenant")} help={text("sign-in-tenant-about")} value={tenant} onChange={setTenant} autoComplete="off" autoFocus maxLength={64} />}
              </>
            ) : (
              <Field key="code" label={text("sign-in-code")} help={text("sign-in-code-about")} value={code} onChange={setCode} autoComplete="one-time-code" autoFocus code maxLength={64} isRequired validationBehavior="aria" />
            )}
            <Button weight="primary" type="submit" isPending={busy} isDisabled={waits || (code === undefined ? !name || !password : !code)}>{text("sign-in")}</Button>
            {code !== undefined && <Button weight="quiet" onPress={back}>{text("back")}</Button>}
          </form>
        )}
        {code === undefined && (ways.passkeys || ways.single_sign_on.length > 0) && (
          <>
            {ways.password && <p className={css.or}>{text("sign-in-or")}</p>}
            {ways.passkeys && <PasskeyWay onDone={done} onFault={fail} isDisabled={busy || waits} />}
            {ways.single_sign_on.length > 0 && <ProviderWays providers={ways.single_sign_on} />}
          </>
        )}
        {code === undefined && <p className="soft small">{text("sign-in-first")}</p>}
        <div className={css.foot}>
          {ways.password && code === undefined && tenant === undefined && <Button weight="quiet" onPress={() => setTenant("")}>{text("sign-in-tenant-name")}</Button>}
          <Button weight="quiet" icon={<Languages />} onPress={() => choose(language === "en" ? "ja" : "en")}>{text("language-other")}</Button>
        </div>
      </div>
    </main>
  );
}

/** How long it takes until one may try again. */
function Wait({ until }: { until: number }) {
  const text = useText();
  const format = useFormat();
  const now = useNow(1_000);
  return <p className="soft small">{text("sign-in-wait", { span: format.span(Math.max(1_000, until - now)) })}</p>;
}
