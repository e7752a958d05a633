//! The test suite that every engine passes.
