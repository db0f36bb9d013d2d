//! The core against a model of two MySQL servers: rules, each by name, and every situation that few events lead to.

mod acts;
mod explore;
mod forget;
mod gtids;
mod model;
mod rules;
mod world;
