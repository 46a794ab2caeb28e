//! The tables of accounts, passwd(5), group(5) and shadow(5): bytes in, bytes out. Pure.
//!
//! Of a table that is rewritten every byte but the two fields that change stays as it is, comments and strange lines too. A
//! name that is there twice is refused: programs differ in which of the lines counts.

/// Largest table that is read, in bytes.
pub const MAX_TABLE: usize = 16 << 20;
/// The mark before a hash by which no password is right, as usermod(8) puts it.
const MARK: u8 = b'!';
/// The day after the first of 1970, as `usermod -e 1` puts it: day 0 means "never" to some readers.
const EXPIRED: &[u8] = b"1";
/// Fields of a line of shadow(5), and those that change.
const FIELDS: usize = 9;
const PASSWORD: usize = 1;
const EXPIRE: usize = 7;
/// Groups whose members may become root by the files of most distributions.
const ADMINS: [&str; 3] = ["sudo", "wheel", "admin"];

/// What the undo has to know.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Former {
    /// Is the mark before the hash ours? False where there was one.
    pub marked: bool,
    /// The day of expiry that was there.
    pub expire: String,
}

/// A user of passwd(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Number.
    pub uid: u32,
    /// Number of the first group.
    pub gid: u32,
}

/// The one line of a name, with its place. Nobody has a name with what ends a field or a line, or none at all.
fn line_of<'a>(table: &'a [u8], name: &str) -> Result<Option<(usize, &'a [u8])>, String> {
    if name.is_empty() || name.contains([':', '\n']) {
        return Ok(None);
    }
    let (mut at, mut found) = (0, None);
    for line in table.split(|byte| *byte == b'\n') {
        if line.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b':')) {
            if found.is_some() {
                return Err(format!("{name} is there twice"));
            }
            found = Some((at, line));
        }
        at += line.len() + 1;
    }
    Ok(found)
}

fn fields(line: &[u8]) -> Vec<&[u8]> {
    line.split(|byte| *byte == b':').collect()
}

fn number(field: Option<&&[u8]>) -> Option<u32> {
    std::str::from_utf8(field?).ok()?.parse().ok()
}

/// A user of passwd(5); `None` where there is none of this name.
///
/// # Errors
/// Two lines, or one that cannot be read.
pub fn user(passwd: &[u8], name: &str) -> Result<Option<User>, String> {
    let Some((_, line)) = line_of(passwd, name)? else { return Ok(None) };
    let fields = fields(line);
    match (number(fields.get(2)), number(fields.get(3))) {
        (Some(uid), Some(gid)) => Ok(Some(User { uid, gid })),
        _ => Err(format!("the line of {name} in passwd is damaged")),
    }
}

/// Password and expiry of a line of shadow(5), with its place.
fn entry<'a>(shadow: &'a [u8], name: &str) -> Result<Option<(usize, Vec<&'a [u8]>)>, String> {
    let Some((at, line)) = line_of(shadow, name)? else { return Ok(None) };
    let fields = fields(line);
    if fields.len() != FIELDS {
        return Err(format!("the line of {name} in shadow has {} fields and not {FIELDS}", fields.len()));
    }
    Ok(Some((at, fields)))
}

fn is_marked(fields: &[&[u8]]) -> bool {
    fields.get(PASSWORD).is_some_and(|password| password.first() == Some(&MARK))
}

/// The state of a user that a lock would change; `None` where shadow(5) has no such user.
///
/// # Errors
/// Two lines, or one that cannot be read.
pub fn former(shadow: &[u8], name: &str) -> Result<Option<Former>, String> {
    let Some((_, fields)) = entry(shadow, name)? else { return Ok(None) };
    let expire = std::str::from_utf8(fields.get(EXPIRE).copied().unwrap_or_default());
    let expire = expire.map_err(|_| format!("the day of expiry of {name} is no text"))?.to_owned();
    if expire.len() > 20 {
        return Err(format!("the day of expiry of {name} is no day"));
    }
    Ok(Some(Former { marked: !is_marked(&fields), expire }))
}

/// Is the user locked, by the mark and by the expiry?
///
/// # Errors
/// There is no such user, or his line cannot be read.
pub fn is_locked(shadow: &[u8], name: &str) -> Result<bool, String> {
    let (_, fields) = entry(shadow, name)?.ok_or_else(|| format!("{name} is not in shadow"))?;
    Ok(is_marked(&fields) && fields.get(EXPIRE) == Some(&EXPIRED))
}

/// The table with the user locked. The same where he is.
///
/// # Errors
/// There is no such user, or his line cannot be read.
pub fn locked(shadow: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let (at, fields) = entry(shadow, name)?.ok_or_else(|| format!("{name} is not in shadow"))?;
    let mut password = fields.get(PASSWORD).copied().unwrap_or_default().to_vec();
    if !is_marked(&fields) {
        password.insert(0, MARK);
    }
    Ok(with(shadow, at, &fields, &password, EXPIRED))
}

/// The table with what the lock changed as it was before, and what of it somebody else changed meanwhile and stays.
///
/// # Errors
/// There is no such user, or his line cannot be read.
pub fn unlocked(shadow: &[u8], name: &str, former: &Former) -> Result<(Vec<u8>, Vec<&'static str>), String> {
    let (at, fields) = entry(shadow, name)?.ok_or_else(|| format!("{name} is not in shadow"))?;
    let password = fields.get(PASSWORD).copied().unwrap_or_default();
    let expire = fields.get(EXPIRE).copied().unwrap_or_default();
    let mut others = Vec::new();
    let password_then = match (former.marked, password.strip_prefix(&[MARK])) {
        (true, Some(bare)) => bare,
        (true, None) => {
            // Without the mark and with the former day it was taken back before.
            if expire != former.expire.as_bytes() {
                others.push("the password");
            }
            password
        }
        (false, _) => password,
    };
    let expire_then = if expire == EXPIRED {
        former.expire.as_bytes()
    } else {
        if expire != former.expire.as_bytes() {
            others.push("the day of expiry");
        }
        expire
    };
    Ok((with(shadow, at, &fields, password_then, expire_then), others))
}

/// The table with two fields of one line replaced.
fn with(shadow: &[u8], at: usize, fields: &[&[u8]], password: &[u8], expire: &[u8]) -> Vec<u8> {
    let mut fields = fields.to_vec();
    let length: usize = fields.iter().map(|field| field.len() + 1).sum();
    for (index, value) in [(PASSWORD, password), (EXPIRE, expire)] {
        if let Some(field) = fields.get_mut(index) {
            *field = value;
        }
    }
    let mut table = shadow.get(..at).unwrap_or_default().to_vec();
    table.extend(fields.join(&b':'));
    table.extend(shadow.get(at + length - 1..).unwrap_or_default());
    table
}

/// Names of users who may become root by their groups.
pub fn admins(passwd: &[u8], group: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut numbers = Vec::new();
    for name in ADMINS {
        let Ok(Some((_, line))) = line_of(group, name) else { continue };
        let fields = fields(line);
        numbers.extend(number(fields.get(2)));
        let members = fields.get(3).copied().unwrap_or_default();
        found.extend(members.split(|byte| *byte == b',').filter(|one| !one.is_empty()).map(text));
    }
    for line in passwd.split(|byte| *byte == b'\n') {
        let fields = fields(line);
        if number(fields.get(3)).is_some_and(|gid| numbers.contains(&gid)) {
            found.extend(fields.first().map(|name| text(name)));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Can anybody but this user become root: an admin whose account has not expired on this day since 1970, or root himself
/// with a password that can be typed?
pub fn another_admin(passwd: &[u8], group: &[u8], shadow: &[u8], name: &str, today: i64) -> bool {
    let expired = |one: &str| match entry(shadow, one) {
        Ok(Some((_, fields))) => {
            let day = fields.get(EXPIRE).and_then(|day| std::str::from_utf8(day).ok()).unwrap_or_default();
            day.parse::<i64>().is_ok_and(|day| day > 0 && day <= today)
        }
        // Unknown to shadow(5), or damaged: nobody to rely on.
        _ => true,
    };
    let typed = || match entry(shadow, "root") {
        Ok(Some((_, fields))) => {
            let password = fields.get(PASSWORD).copied().unwrap_or_default();
            !matches!(password.first(), None | Some(b'!' | b'*'))
        }
        _ => false,
    };
    admins(passwd, group)
        .iter()
        .any(|one| one != name && user(passwd, one).is_ok_and(|user| user.is_some()) && !expired(one))
        || typed()
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHADOW: &[u8] =
        b"root:*:19000:0:99999:7:::\nann:$y$j9T$abc:19000:0:99999:7:::\nannabel:!$6$x:19000:0:99999:7::20500:\n#odd\n";
    const PASSWD: &[u8] = b"root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\nbob:x:1001:27::/:/bin/sh\n";
    const GROUP: &[u8] = b"root:x:0:\nsudo:x:27:ann,ghost\nusers:x:100:bob\n";

    fn line<'a>(table: &'a [u8], name: &str) -> &'a str {
        std::str::from_utf8(line_of(table, name).unwrap().unwrap().1).unwrap()
    }

    #[test]
    fn a_lock_changes_two_fields_and_the_undo_puts_them_back() {
        for name in ["root", "ann", "annabel"] {
            let before = former(SHADOW, name).unwrap().unwrap();
            let there = locked(SHADOW, name).unwrap();
            assert!(is_locked(&there, name).unwrap() && !is_locked(SHADOW, name).unwrap());
            assert_eq!(locked(&there, name).unwrap(), there, "again is the same");
            let (back, others) = unlocked(&there, name, &before).unwrap();
            assert_eq!((back.as_slice(), others.len()), (SHADOW, 0), "{name}");
            assert_eq!(unlocked(&back, name, &before).unwrap().0, SHADOW, "again is the same");
        }
        assert_eq!(line(&locked(SHADOW, "ann").unwrap(), "ann"), "ann:!$y$j9T$abc:19000:0:99999:7::1:");
        assert_eq!(line(&locked(SHADOW, "annabel").unwrap(), "annabel"), "annabel:!$6$x:19000:0:99999:7::1:");
    }

    #[test]
    fn what_somebody_else_changed_meanwhile_stays_and_is_said() {
        let before = former(SHADOW, "ann").unwrap().unwrap();
        let theirs = b"ann:$6$new:20000:0:99999:7::20700:\n";
        let (back, others) = unlocked(theirs, "ann", &before).unwrap();
        assert_eq!((back.as_slice(), others.as_slice()), (&theirs[..], &["the password", "the day of expiry"][..]));
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        assert!(former(b"ann:x:1:::::1:\nann:y:1:::::1:\n", "ann").unwrap_err().contains("twice"));
        assert!(former(b"ann:x:1\n", "ann").unwrap_err().contains("3 fields"));
        assert!(
            locked(SHADOW, "bob").is_err()
                && unlocked(SHADOW, "bob", &Former { marked: true, expire: String::new() }).is_err()
        );
        assert_eq!(former(SHADOW, "an"), Ok(None));
        for nobody in ["", ":", "ann:", "x\nann"] {
            let table = format!("{nobody}:x:1:::::1:\n{nobody}x:1:::::1:\n::1:::::1:\n");
            assert_eq!(former(table.as_bytes(), nobody), Ok(None), "{nobody:?} is no name");
        }
        assert_eq!(user(PASSWD, "ann"), Ok(Some(User { uid: 1000, gid: 1000 })));
        assert!(user(b"ann:x:many:1\n", "ann").is_err());
    }

    #[test]
    fn the_last_who_can_become_root_is_known() {
        assert_eq!(admins(PASSWD, GROUP), ["ann", "bob", "ghost"]);
        let shadow = |ann: &str, bob: &str, root: &str| {
            format!("root:{root}:1::::::\nann:!:1:::::{ann}:\nbob:!:1:::::{bob}:\n").into_bytes()
        };
        let another = |shadow: &[u8]| another_admin(PASSWD, GROUP, shadow, "ann", 20_000);
        assert!(another(&shadow("", "", "*")), "bob, by his first group, with a key");
        assert!(!another(&shadow("", "1", "*")), "bob is locked; a member who is no user counts for nothing");
        assert!(another(&shadow("", "1", "$6$x")), "root can sign in");
        assert!(!another(&shadow("", "1", "")) && !another(b""), "an empty password is none that is typed");
        assert!(another(&shadow("", "20001", "!")), "bob has another day");
    }

    proptest! {
        #[test]
        fn whatever_a_table_holds_all_but_the_line_stays(head in "[a-z:!\n]{0,60}", tail in "[a-z:!\n]{0,60}", hash in "[!*$a-z]{0,9}", day in "[0-9]{0,5}") {
            let table = format!("{head}\nzed:{hash}:1:2:3:4:5:{day}:\n{tail}").into_bytes();
            if let Ok(Some(before)) = former(&table, "zed") {
                let there = locked(&table, "zed").unwrap();
                prop_assert!(is_locked(&there, "zed").unwrap());
                prop_assert_eq!(unlocked(&there, "zed", &before).unwrap().0, table);
            }
        }
    }
}
