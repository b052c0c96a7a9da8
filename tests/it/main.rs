//! Integration tests: one binary, one module for each subject.

mod generated;
