//! What `./stack` asks when no single service can answer: how the whole stack is ([`status`]), what is wrong with the machine or the
//! stack when it does not come up ([`doctor`]), and what one request did in all of them ([`trace`]); and what it does to several services
//! one after the other ([`roll`], [`dev`]) or from
//! outside ([`load`]). [`tour`] shows it all.
//!
//! It is a client of `docker compose` on the host, and of the services' own commands in their containers. What asks changes nothing, and
//! has to work when nothing else does: whatever does not answer in time is part of what it says.
//!
//! Collecting and judging are apart: [`command`] and [`compose`] ask, what is asked lands in plain values, and functions without I/O
//! make sentences of them.

pub mod command;
pub mod compose;
pub mod dev;
pub mod doctor;
pub mod http;
pub mod load;
pub mod progress;
pub mod roll;
pub mod settings;
pub mod status;
pub mod tour;
pub mod trace;
