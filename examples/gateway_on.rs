//! The gateway with everything it has, on an engine that keeps nothing worth having: what benchmarks compare with.
//!
//! `cargo run --release --features bench-engines --example gateway_on -- nothing --config FILE --data-dir DIR` serves the
//! real listeners, and prints their addresses as `streamgate serve --json` does. `docs/benchmarks.md` says what for.

#![expect(clippy::print_stdout, reason = "it tells its addresses to whoever started it")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::rt::System;
use clap::{Parser, ValueEnum};
use streamgate::app::{App, load_config};
use streamgate::config::{Config, Overrides};
use streamgate::store::Store;
use streamgate::store::bench::{AppendOnly, nothing::Nothing, raw::Raw};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Arguments {
    /// What stands behind the door.
    engine: Engine,
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// Where the engine may write.
    #[arg(long)]
    data_dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Engine {
    /// Answers at once.
    Nothing,
    /// Appends to a file and syncs.
    Raw,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { engine, config, data_dir } = Arguments::parse();
    std::fs::create_dir_all(&data_dir)?;
    let store: Arc<dyn Store> = match engine {
        Engine::Nothing => Arc::new(AppendOnly(Nothing::default())),
        Engine::Raw => Arc::new(AppendOnly(Raw::start(&data_dir)?)),
    };
    let any_port = Some(([127, 0, 0, 1], 0).into());
    let overrides =
        Overrides { data_dir: Some(data_dir), listen: any_port, admin_listen: any_port, ..Overrides::default() };
    let config = load_config(Some(&config), &overrides).map_err(|faults| faults.to_string())?;
    streamgate::telemetry::start_log(&config.process.log)?;
    System::new().block_on(serve(config, store))
}

async fn serve(config: Config, store: Arc<dyn Store>) -> Result<(), Box<dyn Error>> {
    let app = App::build_on_engine(config, store)?;
    let mut terminate = signal(SignalKind::terminate())?;
    println!(
        "{}",
        serde_json::json!({
            "publicUrl": format!("http://{}", app.public_address()?),
            "adminUrl": format!("http://{}", app.admin_address()?),
        })
    );
    let until_told = async move {
        let _told = terminate.recv().await;
    };
    Ok(app.run(until_told).await?)
}
