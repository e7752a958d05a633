//! The command line.

use std::path::PathBuf;

const USAGE: &str = "cargo test --test faults -- [--long] [--only ID,ID] [--seed N] [--list] [--json FILE] [--report FILE] [--binary FILE]

  --long         as many runs as the figures of docs/reliability.md took; hours instead of minutes
  --only IDS     only these scenarios, such as D3,N2
  --seed N       the same choices as a run that printed this seed
  --list         names the scenarios
  --json FILE    writes the report as JSON
  --report FILE  writes the report as Markdown
  --binary FILE  the gateway to judge; controls always run the debug build, which alone has fault points";

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    pub(crate) long: bool,
    pub(crate) only: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) list: bool,
    pub(crate) json: Option<PathBuf>,
    pub(crate) report: Option<PathBuf>,
    /// The gateway that is judged.
    pub(crate) binary: PathBuf,
    /// This process runs one scenario within a namespace, for another one outside.
    pub(crate) inside: bool,
}

impl Args {
    /// Reads the command line.
    ///
    /// # Errors
    /// What to print.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            long: false,
            only: Vec::new(),
            seed: u64::from(std::process::id()) << 16 ^ crate::seed::from_the_clock(),
            list: false,
            json: None,
            report: None,
            binary: PathBuf::from(env!("CARGO_BIN_EXE_streamgate")),
            inside: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"));
            match word.as_str() {
                "--long" => args.long = true,
                "--list" => args.list = true,
                "--inside" => args.inside = true,
                "--only" => args.only = value()?.split(',').map(|id| id.trim().to_uppercase()).collect(),
                "--seed" => args.seed = value()?.parse().map_err(|fault| format!("--seed: {fault}"))?,
                "--json" => args.json = Some(value()?.into()),
                "--report" => args.report = Some(value()?.into()),
                "--binary" => args.binary = value()?.into(),
                "--help" | "-h" => return Err(USAGE.to_owned()),
                other => return Err(format!("{other} is not known\n\n{USAGE}")),
            }
        }
        args.binary = std::path::absolute(&args.binary).map_err(|fault| format!("--binary: {fault}"))?;
        if !args.binary.is_file() {
            return Err(format!("--binary: there is no {}", args.binary.display()));
        }
        Ok(args)
    }

    /// Whether this scenario is among what was asked for.
    pub(crate) fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only.eq_ignore_ascii_case(id))
    }
}
