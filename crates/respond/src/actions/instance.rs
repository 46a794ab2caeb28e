//! An EC2 instance as a target: `instance/i-0a1b2c3d4e5f60718`.

use sakimori_model::Order;

/// Kind of the target.
pub const KIND: &str = "instance";
/// Tag of an instance that no action interrupts, whoever asks: the one that the manager runs on, a jump host.
pub const PROTECTED: &str = "sakimori:protected";

/// The instance that an order names.
///
/// # Errors
/// It names something else, or what can be no instance's id.
pub fn id(order: &Order) -> Result<&str, String> {
    let action = &order.action;
    let name =
        order.target.name_of(KIND).ok_or_else(|| format!("{action} acts on an instance, not on {}", order.target))?;
    match is_id("i-", name) {
        true => Ok(name),
        false => Err(format!("{action} acts on an instance like i-0a1b2c3d4e5f60718, not on {}", super::short(name))),
    }
}

/// Is this an id of EC2: a prefix, then 8 to 17 hexadecimal digits?
pub(crate) fn is_id(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| {
        (8..=17).contains(&rest.len())
            && rest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_model::action::Target;

    #[test]
    fn an_instance_and_nothing_else() {
        let mut order = crate::testing::order("a", "192.0.2.1");
        assert!(id(&order).unwrap_err().contains("acts on an instance"));
        for name in ["i-0a1b2c3d", "i-0a1b2c3d4e5f60718"] {
            order.target = Target::resource(KIND, name);
            assert_eq!(id(&order), Ok(name));
        }
        for name in
            ["", "i-", "i-0a1b2c3", "i-0a1b2c3d4e5f607189", "ws-0a1b2c3d", "i-0A1B2C3D", "i-0a1b2c3d,i-0a1b2c3e"]
        {
            order.target = Target::resource(KIND, name);
            assert!(id(&order).is_err(), "{name}");
        }
        order.target = Target::resource("desktop", "i-0a1b2c3d");
        assert!(id(&order).is_err());
    }
}
