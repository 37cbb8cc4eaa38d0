//! What a warehouse runs: its jobs, the flows that do their work, the records of their runs, and the scheduler that
//! starts them.
//!
//! It prints nothing and does not read the environment: [`warehouse::Environment`] has what the program passes on.

pub mod failure;
pub mod flows;
pub mod function_host;
pub mod model_host;
pub mod model_socket;
pub mod runs;
pub mod scheduler;
pub mod system;
pub mod unfilled_tables;
pub mod warehouse;
