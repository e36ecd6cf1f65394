package runloom_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	runloom "runloom.dev/clients/go"
	"runloom.dev/clients/go/internal/testserver"
)

func TestVersionIsThatOfTheServer(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join(testserver.Root(), "Cargo.toml"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^version = "(.*)"$`).FindSubmatch(manifest)
	if found == nil || string(found[1]) != runloom.Version {
		t.Fatalf("Version is %s, and Cargo.toml has %s", runloom.Version, found)
	}
}
