"""Command lines in which Beam's flags stand among ours."""

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from celebface.pipelines import beam_flags, match
from celebface.pipelines.arguments import Parser


def parse(*argv: str):
    parser = Parser("match", "", "")
    parser.add_argument("photo", nargs="*")
    parser.add_argument("--top_k", type=int)
    parser.add_argument("--runner")
    return beam_flags.parse_args(parser, argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["a.jpg", "--top_k", "3", "b.jpg", "--direct_num_workers", "2"],
        ["--direct_num_workers", "2", "a.jpg", "b.jpg", "--top_k=3"],
        ["--top_k", "3", "--direct_num_workers=2", "a.jpg", "b.jpg"],
    ],
)
def test_photos_and_flags_may_stand_in_any_order(argv):
    args, beams = parse(*argv)
    assert (args.photo, args.top_k, args.runner) == (["a.jpg", "b.jpg"], 3, "DirectRunner")
    assert PipelineOptions(beams).view_as(DirectOptions).direct_num_workers == 2


def test_other_runners_have_flags_of_their_own(capsys):
    args, beams = parse("--runner", "FlinkRunner", "a.jpg", "--some_flink_flag=3", "b.jpg")
    assert (args.photo, args.runner) == (["a.jpg", "b.jpg"], "FlinkRunner")
    assert beams == ["--runner", "FlinkRunner", "--some_flink_flag=3"]
    with pytest.raises(SystemExit) as ended:
        parse("--some_flink_flag=3", "a.jpg")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "celebface match: unknown argument --some_flink_flag=3\n"


@pytest.mark.parametrize(
    "slip", ["--top_kk=3", "--max_num_worker=50", "--top_=3", "--tpo_k=3", "--topk=3", "--t0p_k=3"]
)
def test_a_slip_is_no_flag_of_the_runners(slip, capsys):
    """--no_crop for --no_crops would keep what somebody does not want kept."""
    with pytest.raises(SystemExit) as ended:
        parse("--runner=FlinkRunner", "a.jpg", slip)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"celebface match: unknown argument {slip}\n"


@pytest.mark.parametrize("slip", ["--tua=1", "--fra=0.1", "--outptu=new", "--nocrop", "--gallary=x"])
def test_slips_at_the_short_flags_of_match_are_told(slip, capsys):
    with pytest.raises(SystemExit) as ended:
        match.parse_args(["a.jpg", "--runner=FlinkRunner", slip])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"celebface match: unknown argument {slip}\n"


@pytest.mark.parametrize(
    "flag", ["--parallelism=2", "--flink_master=x:1", "--job_endpoint=x:1", "--project=mine", "--max_num_workers=9"]
)
def test_flags_of_engines_need_one(flag, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("a.jpg", flag)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"celebface match: {flag.partition('=')[0]} needs a --runner\n"
    parse("a.jpg", flag, "--runner=PrismRunner")


def test_runners_without_a_job_server_have_no_flags_of_their_own(capsys):
    with pytest.raises(SystemExit):
        parse("--runner=BundleBasedDirectRunner", "a.jpg", "--some_flink_flag=3")
    assert capsys.readouterr().err == "celebface match: unknown argument --some_flink_flag=3\n"


@pytest.mark.parametrize(
    ("asked", "name"),
    [("directrunner", "DirectRunner"), ("flink", "FlinkRunner"), ("a.module.Runner", "a.module.Runner")],
)
def test_runners_are_known_however_they_are_written(asked, name):
    assert beam_flags.runner_name([f"--runner={asked}"]) == name


def test_the_runner_is_the_local_one_unless_named():
    assert beam_flags.runner_name([]) == "DirectRunner"
    assert beam_flags.runner_name(["--runner=FlinkRunner"]) == "FlinkRunner"
    assert StandardOptions([]).runner is None
