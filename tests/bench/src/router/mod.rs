//! `./stack bench router`: queries through `&Router`, through a plain `&MySqlPool`, and through MySQL Router, on one pair of servers.
//!
//! Every way is a client in a process of its own, with the same queries, the same library and the same TLS. They take turns, so that
//! what else happens on the machine meets all of them; a median of several rounds is told.

mod client;
mod instructions;
mod mysql_router;
mod query;
mod relay;
mod report;
mod round_trips;
mod scene;
mod traffic;
mod two_servers;
mod way;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::cores::Cores;
use crate::document::ROUTER;
use crate::programs;
use query::Query;
use report::Report;
use scene::Scene;
use way::Way;

/// How much, and of what.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Another binary for the clients than the one that `cargo build --profile dist --package bench` makes
    #[arg(long, value_name = "PATH")]
    client: Option<PathBuf>,
    /// How often each way has its turn in each cell
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a turn is measured
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Only these ways
    #[arg(long, value_delimiter = ',')]
    ways: Vec<Way>,
    /// Only these queries
    #[arg(long, value_delimiter = ',')]
    queries: Vec<Query>,
    /// One short round: does everything run, does no query fail, and how many round trips are there?
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "write"])]
    quick: bool,
    /// Count the client's instructions per query as well, by callgrind, which takes minutes more
    #[arg(long)]
    callgrind: bool,
    /// Keep what callgrind writes in this directory, for callgrind_annotate
    #[arg(long, value_name = "DIRECTORY", requires = "callgrind")]
    profiles: Option<PathBuf>,
    /// Write the tables into this file too, between its marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Used by this command itself: be one of the clients
    #[arg(long, hide = true)]
    serve_as_client: bool,
}

/// How much is done in a run: in a quick one less.
#[derive(Clone, Copy, Debug)]
struct Extent {
    rounds: u32,
    warm_up: Duration,
    length: Duration,
    /// Queries whose round trips are counted.
    counted: u32,
}

impl Options {
    fn extent(&self) -> Extent {
        if self.quick {
            return Extent {
                rounds: 1,
                warm_up: Duration::from_millis(200),
                length: Duration::from_millis(300),
                counted: 100,
            };
        }
        Extent {
            rounds: self.rounds,
            warm_up: Duration::from_secs(1),
            length: self.seconds,
            counted: 1000,
        }
    }

    fn ways(&self) -> Vec<Way> {
        let asked = |way: &Way| self.ways.is_empty() || self.ways.contains(way);
        Way::ALL.into_iter().filter(asked).collect()
    }

    fn queries(&self) -> Vec<Query> {
        let asked = |query: &Query| self.queries.is_empty() || self.queries.contains(query);
        Query::ALL.into_iter().filter(asked).collect()
    }
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse()?;
    ensure!(
        (0.2..=60.0).contains(&seconds),
        "a turn takes from 0.2 to 60 seconds"
    );
    Ok(Duration::from_secs_f64(seconds))
}

/// Measures, prints the tables, and writes them where that was asked for.
///
/// # Errors
/// When something cannot be set up, and at the end, when a query has failed.
pub async fn run(options: &Options, cores: &Cores) -> Result<()> {
    if options.serve_as_client {
        return client::serve().await;
    }
    if let Some(path) = &options.write {
        ROUTER.check(path)?;
    }
    let (ways, queries, extent) = (options.ways(), options.queries(), options.extent());
    eprintln!("starting two servers, and MySQL Router");
    let client = programs::published("bench", options.client.as_deref(), "--client")?;
    let scene = Scene::set(&ways, client).await?;
    let mut report = Report::begin(&scene, cores, extent, &ways).await?;
    for &way in &ways {
        match round_trips::count(way, &queries, extent.counted, &scene).await {
            Ok(counted) => report.round_trips(way, counted),
            Err(error) => report.fail(&format!("round trips, {way}"), &error),
        }
    }
    traffic::measure(&ways, &queries, &scene, extent, &mut report).await?;
    if ways.contains(&Way::Router)
        && let Err(error) = two_servers::measure(&scene, extent, &mut report).await
    {
        report.fail("one server and two", &error);
    }
    if options.callgrind {
        let scratch = harness::run::directory("callgrind")?;
        let profiles = options.profiles.as_deref().unwrap_or(scratch.path());
        std::fs::create_dir_all(profiles)?;
        for &way in &ways {
            for &query in &queries {
                let each = instructions::per_query(way, query, &scene, profiles).await;
                match each {
                    Ok(each) => report.instructions(way, query, each),
                    Err(error) => {
                        report.fail(&format!("{}, {way}, callgrind", query.name()), &error);
                    }
                }
            }
        }
    }
    let text = report.to_text();
    println!("{text}");
    if let Some(path) = &options.write {
        ROUTER.replace(path, &text)?;
    }
    if report.has_failures() {
        bail!("not all went well: see above");
    }
    Ok(())
}
