"""CSVs as readers see them."""

from reproduce.evidence.schema import titled
from reproduce.show.cells import number_cell, table_of


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return table_of(path)


def test_accuracies_are_per_cent_whatever_table_they_stand_in(tmp_path):
    table = write(
        tmp_path / "summary.csv",
        "dataset,label,runs,mean,ci_low,test_accuracy_best_val\nmnist,A,3,0.91234,0.9,0.92\nsvhn,B,4,,,0.5\n",
    )
    assert table.columns == [
        "Data set",
        "Label",
        "Runs",
        "Mean (%)",
        "95 % interval from (%)",
        "Test accuracy at the best validation (%)",
    ]
    assert [cell.text for cell in table.rows[0]] == ["MNIST", "A", "3", "91.23", "90.00", "92.00"]
    assert [cell.text for cell in table.rows[1]] == ["SVHN", "B", "4", "", "", "50.00"]
    assert table.rows[0][3].value == "0.91234", "sorted by all its digits"


def test_a_mean_that_is_no_accuracy_is_shown_as_it_is(tmp_path):
    table = write(tmp_path / "convergence.csv", "label,rate,rate_low,monotone_share\nA,0.98765,0.9,1.0\nB,1.5,1,0.5\n")
    assert table.columns == ["Label", "Rate", "Rate, from", "Monotone share (%)"]
    assert [cell.text for cell in table.rows[0]] == ["A", "0.98765", "0.9", "100.00"]


def test_what_all_rows_share_is_said_once_by_its_title(tmp_path):
    table = write(tmp_path / "ranks.csv", "dataset,label,p\nfashion_mnist,A,0.1\nfashion_mnist,B,0.2\n")
    assert table.same == [("Data set", "Fashion-MNIST")] and table.datasets == [] and table.at is None


def test_data_sets_to_filter_by_are_the_texts_of_their_column(tmp_path):
    table = write(tmp_path / "ranks.csv", "label,dataset,p\nA,mnist,0.1\nB,fashion_mnist,0.2\nC,mnist,0.3\n")
    assert (table.datasets, table.at) == (["MNIST", "Fashion-MNIST"], 1)
    assert {row[1].text for row in table.rows} == set(table.datasets)


def test_infinity_sorts_and_words_have_titles():
    assert (number_cell("inf").text, number_cell("-inf").value) == ("∞", "-Infinity")
    assert titled("open: mnist, fashion_mnist") == "open: MNIST, Fashion-MNIST"
