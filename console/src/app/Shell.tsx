// What surrounds every page: navigation, whether the manager answers, whether automatic answers are halted, the palette.
import { Languages, LogOut, Menu as MenuIcon, Moon, Search, Sun, SunMoon, UserRound, X } from "lucide-react";
import { Suspense, useEffect, useState } from "react";
import { NavLink, Outlet, useLocation } from "react-router";
import { useText, useWords } from "../i18n/words";
import { Button } from "../parts/Button";
import { Menu } from "../parts/Menu";
import { Waiting } from "../parts/State";
import { useHalt } from "./installation";
import { useKeys } from "./keys";
import { Connection, useLive } from "./live";
import { pages } from "./pages";
import { Palette } from "./Palette";
import { useSession, useSpeak } from "./session";
import { useTheme, type Theme } from "./theme";
import css from "./Shell.module.css";

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

export function Shell() {
  const text = useText();
  const { can } = useSession();
  const [narrowOpen, setNarrowOpen] = useState(false);
  const [palette, setPalette] = useState(false);
  const { pathname } = useLocation();
  useKeys(() => setPalette(true));
  useLive();

  useEffect(() => setNarrowOpen(false), [pathname]);

  return (
    <div className={css.shell}>
      <a href="#page" className={css.skip}>{text("skip")}</a>
      <header className={css.top}>
        <Button weight="quiet" icon={narrowOpen ? <X /> : <MenuIcon />} label={text("navigation")} onPress={() => setNarrowOpen(!narrowOpen)} />
        <Mark />
        <Button weight="quiet" icon={<Search />} label={text("palette")} onPress={() => setPalette(true)} />
      </header>
      <nav className={css.nav} aria-label={text("navigation")} data-open={narrowOpen}>
        <div className={css.brand}><Mark /></div>
        <button type="button" className={css.find} onClick={() => setPalette(true)}>
          <Search size={16} aria-hidden /> <span className="grow">{text("palette")}</span> <kbd>Ctrl K</kbd>
        </button>
        <ul className={css.links}>
          {pages.filter((page) => can(page.permission)).map((page) => (
            <li key={page.id}>
              <NavLink to={page.path} end={page.path === "/"} className={css.link}>
                <page.icon size={18} aria-hidden /> {text(`page-${page.id}`)}
              </NavLink>
            </li>
          ))}
        </ul>
        <Me />
      </nav>
      <main id="page" className={css.main} tabIndex={-1}>
        <Connection />
        <Halted />
        <Suspense fallback={<Waiting />}>
          <Outlet />
        </Suspense>
      </main>
      <Palette open={palette} onClose={() => setPalette(false)} />
    </div>
  );
}

function Mark() {
  const text = useText();
  return (
    <span className={css.mark}>
      <img src="/mark.svg" width="26" height="26" alt="" /> {text("sakimori")}
    </span>
  );
}

function Me() {
  const text = useText();
  const { language } = useWords();
  const { who, leave } = useSession();
  const speak = useSpeak();
  const [theme, setTheme] = useTheme();
  const faces = { system: <SunMoon />, light: <Sun />, dark: <Moon /> };
  return (
    <div className={css.me}>
      <Menu label={who.name} icon={<UserRound />} items={[{ id: "leave", name: text("sign-out"), do: () => void leave() }]}>
        <span className={css.name}>{who.name}</span>
      </Menu>
      <span className="row">
        <Button weight="quiet" icon={<Languages />} label={text("language-other")} onPress={() => speak(language === "en" ? "ja" : "en")} />
        <Button weight="quiet" icon={faces[theme]} label={text(`theme-${theme}`)} onPress={() => setTheme(NEXT[theme])} />
        <Button weight="quiet" icon={<LogOut />} label={text("sign-out")} onPress={() => void leave()} />
      </span>
    </div>
  );
}

/** Nobody should wonder why nothing is blocked. */
function Halted() {
  const text = useText();
  const { data } = useHalt();
  if (!data?.halted) return null;
  return (
    <div className={css.halted} role="alert">
      <strong>{text("halted")}</strong> {text("halted-about", { by: data.by, reason: data.reason || "—" })}
    </div>
  );
}
