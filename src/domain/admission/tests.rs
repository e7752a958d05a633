//! Admission as a pure function: the order of the checks, what each refusal says, the test operation.
