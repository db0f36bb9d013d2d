//! The program `trace-store`; everything is in the library beside it.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use trace_store::{
    serve::{pages, spans},
    store::{Limits, Store},
};

#[derive(Parser)]
#[command(
    name = "trace-store",
    about = "Keeps the newest traces in memory, in Jaeger's place"
)]
struct Arguments {
    /// Where spans come in: OTLP over HTTP, in plain text, so behind something that knows who may send
    #[arg(long, default_value = "127.0.0.1:4319")]
    otlp: SocketAddr,
    /// Where traces are asked for and looked at
    #[arg(long, default_value = "0.0.0.0:16686")]
    ui: SocketAddr,
    /// The traces that are kept; the oldest goes when one more comes
    #[arg(long, default_value_t = 5000)]
    traces_max: usize,
    /// The spans that are kept of one trace
    #[arg(long, default_value_t = 1000)]
    spans_max: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trace-store: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(arguments: &Arguments) -> Result<()> {
    let store = Arc::new(Store::new(Limits {
        traces: arguments.traces_max,
        spans: arguments.spans_max,
    }));
    let (otlp, ui) = (listen(arguments.otlp).await?, listen(arguments.ui).await?);
    println!(
        "spans by OTLP/HTTP at {}, traces at http://{}/",
        otlp.local_addr()?,
        ui.local_addr()?
    );
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = spans(otlp, Arc::clone(&store)) => {}
        () = pages(ui, store) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen at {address}"))
}
