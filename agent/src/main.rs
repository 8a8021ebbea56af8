//! Parse, run a command, print what went wrong with its remedy.

use clap::Parser as _;
use nodeprobe::{
    cli::{Cli, Command},
    command::{self, EXIT_ERROR, EXIT_OK, EXIT_USAGE},
};

fn main() {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to say if the terminal is gone.
            drop(error.print());
            command::exit(if error.use_stderr() { EXIT_USAGE } else { EXIT_OK });
        }
    };
    let result = match cli.command {
        Command::Top(arguments) => command::top::run(&arguments),
        Command::Diagnose(arguments) => command::diagnose::run(&arguments),
        Command::Trace(arguments) => command::trace::run(&arguments),
        Command::Record(arguments) => command::record::run(&arguments),
        Command::Ps(arguments) => command::ps::run(&arguments),
        Command::Run(arguments) => command::run::run(&arguments),
        Command::Check(arguments) => command::check::run(arguments.format).map_err(Into::into),
        Command::Completions { shell } => command::shell::completions(shell),
        Command::Debug(arguments) => command::debug::run(arguments),
    };
    command::exit(result.unwrap_or_else(|error| {
        command::complain(&error);
        EXIT_ERROR
    }));
}
