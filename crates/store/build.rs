//! A migration that is added must be embedded anew: `sqlx::migrate!` does not watch its folder by itself.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
