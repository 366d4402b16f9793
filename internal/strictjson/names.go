package strictjson

// fewNames is how many names of one object are compared one by one; beyond it
// they go into a map, so that an object of many names costs no quadratic time.
const fewNames = 32

// nameSet is the names seen in one object: the parser's names from base on.
type nameSet struct {
	parser *parser
	base   int
	many   map[string]struct{}
}

// add reports whether name was there already.
func (s *nameSet) add(name string) (duplicate bool) {
	p := s.parser
	if s.many != nil {
		_, duplicate = s.many[name]
		s.many[name] = struct{}{}
		return duplicate
	}
	seen := p.names[s.base:]
	for _, other := range seen {
		if other == name {
			return true
		}
	}
	if len(seen) < fewNames {
		p.names = append(p.names, name)
		return false
	}
	s.many = make(map[string]struct{}, 4*fewNames)
	for _, other := range seen {
		s.many[other] = struct{}{}
	}
	s.many[name] = struct{}{}
	return false
}
