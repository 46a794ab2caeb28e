//! Signing in, beside the API that offers it ([`crate::api`]): what the configuration says ([`settings`]), what a sign-in
//! knows from its beginning to its end ([`ticket`]), and what is asked of providers ([`providers`]). Proofs are checked by
//! `sakimori_identity`.

pub mod providers;
pub mod settings;
pub mod ticket;
