//! When a correlation holds, over the entries of a window.

use rsigma_parser::{ConditionExpr, ConditionOperator};

use crate::correlation::Input;
use crate::window::Window;

/// What a correlation counts.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Events,
    Values(Vec<String>),
    /// Each rule at least once, in any order, or as the expression says.
    Together(Option<ConditionExpr>),
    /// One rule after the other.
    Ordered,
}

/// Only names of its own rules, `and` and `or`.
pub(crate) fn check_expression(expression: &ConditionExpr, rules: &[String]) -> Result<(), String> {
    match expression {
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => {
            parts.iter().try_for_each(|part| check_expression(part, rules))
        }
        ConditionExpr::Identifier(name) if rules.contains(name) => Ok(()),
        ConditionExpr::Identifier(name) => Err(format!("the condition names {name}, which is not under `rules`")),
        ConditionExpr::Not(_) | ConditionExpr::Selector { .. } => {
            Err("a condition over rules may hold names, `and` and `or` only".into())
        }
    }
}

/// Is the condition met by the entries from one moment to another?
pub(crate) fn holds(
    kind: &Kind,
    predicates: &[(ConditionOperator, u64)],
    inputs: &[Input],
    window: &Window,
    from: i64,
    to: i64,
) -> bool {
    let seen = |slot: usize| window.between(from, to).any(|entry| entry.slot as usize == slot);
    match kind {
        Kind::Events | Kind::Values(_) => meets(predicates, window.between(from, to).count()),
        Kind::Together(Some(expression)) => expressed(expression, &|name| {
            inputs.iter().enumerate().any(|(slot, input)| input.name == name && seen(slot))
        }),
        Kind::Together(None) => {
            let found = (0..inputs.len()).filter(|slot| seen(*slot)).count();
            // Written or not, all of them are needed; a threshold above that asks for so many different ones.
            if predicates.iter().all(|(_, number)| *number <= 1) {
                found == inputs.len()
            } else {
                meets(predicates, found)
            }
        }
        Kind::Ordered => ordered(window, inputs.len(), from, to),
    }
}

/// Does an entry of each rule follow one of the rule before it?
fn ordered(window: &Window, steps: usize, from: i64, to: i64) -> bool {
    let mut step = 0;
    for entry in window.between(from, to) {
        if entry.slot as usize == step {
            step += 1;
            if step == steps {
                return true;
            }
        }
    }
    false
}

fn meets(predicates: &[(ConditionOperator, u64)], count: usize) -> bool {
    let count = count as u64;
    predicates.iter().all(|(operator, number)| match operator {
        ConditionOperator::Lt => count < *number,
        ConditionOperator::Lte => count <= *number,
        ConditionOperator::Gt => count > *number,
        ConditionOperator::Gte => count >= *number,
        ConditionOperator::Eq => count == *number,
        ConditionOperator::Neq => count != *number,
    })
}

fn expressed(expression: &ConditionExpr, seen: &dyn Fn(&str) -> bool) -> bool {
    match expression {
        ConditionExpr::And(parts) => parts.iter().all(|part| expressed(part, seen)),
        ConditionExpr::Or(parts) => parts.iter().any(|part| expressed(part, seen)),
        ConditionExpr::Identifier(name) => seen(name),
        ConditionExpr::Not(_) | ConditionExpr::Selector { .. } => false,
    }
}
