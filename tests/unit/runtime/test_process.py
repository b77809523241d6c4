import resource
import subprocess
import sys


def test_a_process_may_open_as_many_files_as_it_can_be_given() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    code = (
        "import resource; from atoll.runtime.process import allow_open_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {most}))\n"
        "print(allow_open_files())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == most
