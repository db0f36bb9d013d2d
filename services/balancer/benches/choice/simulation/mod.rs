//! The simulation: who sends which request to which server, and how long each of them takes. Time is simulated, and the dice have a seed, so
//! a run comes out the same every time.
//!
//! The model:
//! - Requests come when they like (an open model, Poisson): they do not wait for each other's answers.
//! - A server is a queue, first come, first served, with [`scene::WORKERS`] requests at work at one time. A request brings its own amount of work.
//! - One that fails answers with an error at once and takes no worker for it.
//! - Whoever chooses knows what a balancer knows: what it has sent itself and what has come back.
//!
//! Least connections is the balancer's own code, with its leases, echoes, shares and ticks; the others are written here. All of them get the same
//! requests at the same times with the same work, so what differs is the choice. The network, retries, ejection and health checks are not in it.

pub(crate) mod chooser;
pub(crate) mod dice;
pub(crate) mod filling;
pub(crate) mod measures;
pub(crate) mod scene;
pub(crate) mod server;
pub(crate) mod work;
pub(crate) mod world;
