//! Runs the targets: `fuzz [--keep] [TARGET] [SECONDS]`, in the directory of the whole project. `./stack help` says what for.

// What counts coverage here as everywhere in this crate asks for its runtime.
use libfuzzer_sys as _;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;

use fuzz::{TARGETS, Target, corpus};

type Failure = Box<dyn Error + Send + Sync>;

/// Where this crate is.
const HERE: &str = "tests/fuzz";
/// For each target, where nothing else is said.
const SECONDS: u32 = 10;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("fuzz: {failure}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, Failure> {
    let (mut keeps, mut name, mut seconds) = (false, None, SECONDS);
    for argument in env::args().skip(1) {
        match argument.parse() {
            Ok(number) => seconds = number,
            Err(_) if argument == "--keep" => keeps = true,
            Err(_) => name = Some(argument),
        }
    }
    let chosen: Vec<Target> = TARGETS
        .into_iter()
        .filter(|target| name.as_ref().is_none_or(|name| name == target.name))
        .collect();
    if chosen.is_empty() {
        let names = TARGETS.map(|target| target.name).join(", ");
        return Err(format!("there is no such target; there are {names}").into());
    }
    // One for each processor at a time.
    let waiting = Mutex::new(chosen.iter());
    let next = || waiting.lock().ok()?.next();
    let threads = thread::available_parallelism()?.get().min(chosen.len());
    let outcomes: Vec<Result<bool, Failure>> = thread::scope(|scope| {
        let work = || {
            let mut outcomes = Vec::new();
            while let Some(target) = next() {
                let place = Place::of(target);
                outcomes.push(place.and_then(|place| place.run(seconds, keeps)));
            }
            outcomes
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .flat_map(|outcomes| outcomes.unwrap_or_else(|_| vec![Err("a thread died".into())]))
            .collect()
    });
    outcomes
        .into_iter()
        .try_fold(true, |all, outcome| Ok(all & outcome?))
}

/// Where libFuzzer's dice begin; without it, or with 0, each time elsewhere.
const SEED: &str = "HOLDFAST_FUZZ_SEED";

/// Where a target and its inputs are.
struct Place {
    target: Target,
    program: PathBuf,
    /// What this crate keeps: `corpus/`, minimised, and `regressions/`, by hand.
    corpus: PathBuf,
    /// All that is kept, and the seeds, as files for libFuzzer.
    known: PathBuf,
    /// What runs here have found so far.
    found: PathBuf,
    crashes: PathBuf,
}

impl Place {
    fn of(target: &Target) -> Result<Place, Failure> {
        let own = env::current_exe()?;
        let own = own.strip_prefix(env::current_dir()?).unwrap_or(&own);
        let programs = own.parent().ok_or("this program is nowhere")?;
        let work = programs.join("inputs");
        let name = target.name;
        let place = Place {
            target: *target,
            program: programs.join(name),
            corpus: text_of("corpus", name),
            known: work.join("known").join(name),
            found: work.join("found").join(name),
            crashes: work.join("crashes").join(name),
        };
        for directory in [&place.known, &place.found, &place.crashes] {
            fs::create_dir_all(directory)?;
        }
        // What this run crashes on, and not one before it.
        empty(&place.crashes)?;
        empty(&place.known)?;
        let regressions = text_of("regressions", name);
        for (path, kind) in [(&place.corpus, "corpus"), (&regressions, "regression")] {
            unpack(&place.known, kind, &kept(path)?)?;
        }
        unpack(&place.known, "seed", &(target.seeds)())?;
        Ok(place)
    }

    /// Fuzzes, says in one line what came of it, and whether all is well.
    fn run(&self, seconds: u32, keeps: bool) -> Result<bool, Failure> {
        let log_path = self.crashes.with_extension("log");
        let log = fs::File::create(&log_path)?;
        // An input takes far less than a millisecond; this machine may be busy all the same.
        // Where the same is wanted every time, it begins with the same.
        let seed = env::var(SEED).unwrap_or_else(|_| "0".to_owned());
        let status = self
            .libfuzzer()
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-seed={seed}"))
            .args(["-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", self.crashes.display()))
            .arg(format!("-dict={HERE}/dict/{}.dict", self.target.dictionary))
            .args([&self.found, &self.known])
            .stderr(log)
            .status()?;
        let log = String::from_utf8_lossy(&fs::read(&log_path)?).into_owned();
        let name = self.target.name;
        if !log.contains("INFO: Loaded ") {
            return Err(format!("{name} has no counters: is RUSTFLAGS set?").into());
        }
        let stat = |stat: &str| {
            let line = log.lines().find_map(|line| line.strip_prefix(stat));
            line.map_or("?", str::trim)
        };
        let after = |word: &str| {
            let mut words = log.lines().rev().find(|l| l.contains(word))?.split(' ');
            words.find(|of| *of == word).and_then(|_| words.next())
        };
        let mut told = format!(
            "{name:<16} {:>9} executions, {:>7} a second, {:>5} edges, {:>4} new units  {}",
            stat("stat::number_of_executed_units:"),
            stat("stat::average_exec_per_sec:"),
            after("cov:").unwrap_or("?"),
            stat("stat::new_units_added:"),
            if status.success() { "ok" } else { "FAILED" }
        );
        if !status.success() {
            told += &self.failure(&log)?;
        } else if keeps {
            told += &format!(", {} inputs in its corpus", self.keep()?);
        }
        // At once: others may be telling something, too.
        println!("{told}");
        Ok(status.success())
    }

    /// What went wrong, with which input, and what to do about it.
    fn failure(&self, log: &str) -> Result<String, Failure> {
        let panic = log.lines().skip_while(|line| !line.contains("panicked at"));
        let is_end =
            |line: &&str| line.starts_with("note: ") || line.starts_with("stack backtrace");
        let panic: Vec<&str> = panic.take_while(|line| !is_end(line)).collect();
        let Some(crash) = fs::read_dir(&self.crashes)?.next() else {
            return Ok(format!(
                "\nno input was left behind; all that was said:\n{log}"
            ));
        };
        let (input, program, name) = (crash?.path(), self.program.display(), self.target.name);
        Ok(format!(
            "\n{}\n  the input      {path}\n  once more      {program} {path}\n  \
            make it small  {program} -minimize_crash=1 -max_total_time=30 {path}\n  \
            keep it        as this line of {HERE}/regressions/{name}.txt:\n{}",
            panic.join("\n"),
            corpus::escaped(&fs::read(&input)?),
            path = input.display(),
        ))
    }

    /// Adds to the corpus the fewest of what was found that reach what nothing in it does. Gives how many there are then. Nothing is
    /// taken out, so that a diff says what came; who wants it smaller deletes the file before.
    fn keep(&self) -> Result<usize, Failure> {
        let all = self.known.with_extension("all");
        fs::create_dir_all(&all)?;
        empty(&all)?;
        let seeds = (self.target.seeds)();
        unpack(&all, "seed", &seeds)?;
        unpack(&all, "corpus", &kept(&self.corpus)?)?;
        let merged = self
            .libfuzzer()
            // By edges, not by how often each was taken: that would be thousands.
            .args(["-set_cover_merge=1", "-use_counters=0"])
            .args([&all, &self.found])
            .stderr(Stdio::null())
            .status()?;
        if !merged.success() {
            return Err(format!("{}: merging failed", self.target.name).into());
        }
        let mut inputs = Vec::new();
        for file in fs::read_dir(&all)? {
            let input = fs::read(file?.path())?;
            if !seeds.contains(&input) {
                inputs.push(input);
            }
        }
        let count = inputs.len();
        fs::write(&self.corpus, corpus::write(inputs))?;
        Ok(count)
    }

    fn libfuzzer(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(format!("-max_len={}", self.target.input_bytes_max))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }
}

fn text_of(kind: &str, name: &str) -> PathBuf {
    [HERE, kind, &format!("{name}.txt")].iter().collect()
}

fn kept(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    corpus::read(&fs::read_to_string(path)?)
        .map_err(|line| format!("{}:{line}: not an input", path.display()).into())
}

fn unpack(directory: &Path, kind: &str, inputs: &[Vec<u8>]) -> Result<(), Failure> {
    for (index, input) in inputs.iter().enumerate() {
        fs::write(directory.join(format!("{kind}-{index:04}")), input)?;
    }
    Ok(())
}

fn empty(directory: &Path) -> Result<(), Failure> {
    for file in fs::read_dir(directory)? {
        fs::remove_file(file?.path())?;
    }
    Ok(())
}
