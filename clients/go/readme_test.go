package runloom_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"runloom.dev/clients/go/internal/testserver"
)

var block = regexp.MustCompile("(?ms)^```(go|text)\n(.*?)^```$")

// The programs of the README run against a server, and print what the README says.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	server := testserver.Start(t, map[string]string{"approval.yaml": testserver.Example(t, "approval.yaml")})
	blocks := block.FindAllStringSubmatch(string(text), -1)
	programs := 0
	for i, found := range blocks {
		if found[1] != "go" {
			continue
		}
		programs++
		file := filepath.Join(t.TempDir(), "main.go")
		source := strings.ReplaceAll(found[2], "localhost:50051", server.Address)
		if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
		var output bytes.Buffer
		command := exec.Command("go", "run", file)
		command.Stdout, command.Stderr = &output, &output
		if err := command.Run(); err != nil {
			t.Fatalf("%v\n%s", err, output.String())
		}
		if i+1 == len(blocks) || blocks[i+1][1] != "text" {
			t.Fatal("a program without its output")
		}
		if output.String() != blocks[i+1][2] {
			t.Errorf("the program prints\n%s\nand the README says\n%s", output.String(), blocks[i+1][2])
		}
	}
	if programs == 0 {
		t.Fatal("the README has no programs")
	}
}
