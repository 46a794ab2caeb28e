//! Rule bundles: build, sign, verify, index, swap while running.
